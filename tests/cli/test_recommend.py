from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from recbole_llmkt.cli.main import main
from recbole_llmkt.cli.recommend import read_tokens
from recbole_llmkt.quick_start import train
from recbole_llmkt.recommend import explain
from recbole_llmkt.recommend.explain import Explanation, Reason
from recbole_llmkt.recommend.recommender import Recommendation, RecommendedItem
from recbole_llmkt.recommend.render import json_line, page, text_lines
from tests.helpers import random_vectors, write_profiles


class HashEncoder:
    """A vector of the width of the stored ones for each text."""

    name = "test-encoder"

    def encode(self, texts):
        table = np.stack(list(random_vectors([*texts, "x"]).values()))[: len(texts)]
        return table / np.linalg.norm(table, axis=1, keepdims=True)


def run(*arguments):
    done = CliRunner().invoke(main, ["recommend", *arguments])
    assert "Traceback" not in done.output
    return done


@pytest.fixture
def odd(make_dataset, monkeypatch):
    """Return the checkpoint of a run whose tokens and titles have everything in them."""
    monkeypatch.setattr(explain, "get_encoder", lambda config: HashEncoder())
    dataset = make_dataset(user=lambda n: f"Zoë {n}, jr" if n else "雪", item="<b>{}</b>".format)
    users = {row[0] for row in dataset.rows}
    vectors = random_vectors(sorted({row[1] for row in dataset.rows}))
    folder = dataset.folder / "profiles"
    write_profiles(folder, "user", random_vectors(sorted(users)), {})
    write_profiles(folder, "item", vectors, {})
    lines = ["item_id:token\ttitle:token_seq"]
    lines += [f"{token}\tThe <i>Story</i> & “{token[3:-4]}”" for token in vectors]
    (dataset.folder / "tiny.item").write_text("\n".join(lines) + "\n", encoding="utf-8")
    result = train(dataset.config(kt_enabled=False, epochs=1), verbose=False)
    return f"--checkpoint={result['checkpoint']}"


def test_text(odd):
    done = run(odd, '--users=雪, "Zoë 1, jr"', "--topk=3")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    start = lines.index("User 雪")
    assert lines[start + 1].startswith("  1. The <i>Story</i> & “")
    shown = lines[start + 2 : start + 7 : 2]
    assert 0 < sum('"Profile of 雪"' in line for line in shown) < 3  # nearer than the others' mean
    assert all("Profile of" in line or "no sentence fits" in line for line in shown)
    assert lines.index("User Zoë 1, jr") == start + 8


def test_json_lines(odd):
    done = run(odd, "--users=雪,雪", "--topk=4", "--json", "--output=out.jsonl")
    assert done.exit_code == 0, done.output
    (line,) = Path("out.jsonl").read_text(encoding="utf-8").splitlines()
    record = json.loads(line)
    assert record["user"] == "雪" and len(record["items"]) == 4
    scores = [item["score"] for item in record["items"]]
    assert scores == sorted(scores, reverse=True)
    first = record["items"][0]
    assert first.keys() == {"item", "title", "score", "reasons", "note"}
    assert first["item"].startswith("<b>") and first["title"].startswith("The <i>Story</i>")
    assert first["reasons"][0]["sentence"] == "Profile of 雪" and first["note"] is None


def test_a_page_shows_odd_text_as_it_is(odd):
    done = run(odd, "--users=all", "--topk=2", "--html", "--output=new/folder/page.html")
    assert done.exit_code == 0, done.output
    page = Path("new/folder/page.html").read_text(encoding="utf-8")
    assert page.count("<h2>") == 30
    assert "<b>" not in page and "<i>Story" not in page and "&lt;b&gt;" in page
    assert "https://" not in page and "src=" not in page  # it needs no other file
    assert "afterwards" in page and "prefers-color-scheme: dark" in page and "@media print" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--users=nobody"], "'nobody': no such user in the dataset 'tiny'"),
        (["--users=nobody", "--output=out"], "'nobody': no such user"),
        (["--users= , "], "name at least one user"),
        (["--users=雪", "--topk=41", "--output=out"], "the catalogue has only 40 items"),
        (["--users=雪", "--topk=0"], "0 is not in the range"),
        (["--users=雪", "--json", "--html"], "exclude each other"),
        (["--users=雪", "--output=out.HTML"], "add --html, or choose a name that ends with .txt"),
        (["--users=雪", "--output=out.md", "--json"], "read as HTML"),
    ],
)
def test_bad_input_is_one_message_and_nothing_is_written(odd, arguments, message):
    done = run(odd, *arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert not list(Path().glob("out*"))


def test_a_file_that_is_no_checkpoint():
    Path("some.pth").write_text("hello")
    done = run("--checkpoint=some.pth", "--users=1")
    assert done.exit_code == 2 and "must be a file that recbole_llmkt saved" in done.output


def test_all_users_of_a_large_dataset_go_to_a_file(odd, monkeypatch):
    from recbole_llmkt.cli import recommend

    monkeypatch.setattr(recommend, "_SCREENFUL", 29)
    done = run(odd, "--users=all")
    assert done.exit_code == 2 and "--output=FILE" in done.output


def test_without_titles_and_profiles(make_dataset):
    dataset = make_dataset()
    result = train(dataset.config(kt_enabled=False, epochs=1), verbose=False)
    done = run(f"--checkpoint={result['checkpoint']}", "--users=u1", "--topk=2", "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(next(line for line in done.output.splitlines() if line.startswith("{")))
    item = record["items"][0]
    assert item["title"] == item["item"] and item["reasons"] == []
    assert item["note"] == "no profile of this user and this item"
    assert not (dataset.folder / "profiles").exists()  # none were made on the way


HOSTILE = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202e"


def _hostile() -> Recommendation:
    item = RecommendedItem(
        f"i{HOSTILE}",
        f"A{HOSTILE}\n  2. fake",
        0.5,
        Explanation((Reason(f"Likes{HOSTILE}", 0.9),), None),
    )
    return Recommendation(f"u{HOSTILE}", (item,))


def test_terminal_escapes_of_others_are_not_passed_on():
    text = "\n".join(text_lines(_hostile()))
    config = {"model": "m", "dataset": "d", "profile_encoder": "e"}
    for shown in (text, json_line(_hostile()), page([_hostile()], config)):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", shown)
    assert "User ured" in text and "  1. Ared   2. fake [ired]" in text
    assert len(text.splitlines()) == 3
    record = json.loads(json_line(_hostile()))
    assert record["user"] == f"u{HOSTILE}" and record["items"][0]["item"] == f"i{HOSTILE}"


def test_an_id_that_ends_in_a_no_break_space_is_asked_for_to_the_letter():
    assert read_tokens(None, None, " a\u00a0, b") == ["a\u00a0", "b"]
