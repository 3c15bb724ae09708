from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from recbole_llmkt.profiles.generation.generators import Answer, Generator, Request, get_generator
from recbole_llmkt.profiles.generation.generators.base import is_refusal, judge
from recbole_llmkt.profiles.generation.generators.file import (
    FileGenerator,
    entities_of,
    read_profiles,
)
from recbole_llmkt.utils.exceptions import ConfigError, DataError
from tests.profiles.generation.helpers import SETTINGS, request

LIKED = {"title": "A", "year": "1990", "categories": ["Drama", "War"], "rating": "5"}
DISLIKED = {"title": "B", "year": "1970", "categories": ["Comedy"], "rating": "1"}
USER = {
    "items": [LIKED, LIKED, DISLIKED],
    "n_interactions": 7,
    "has_ratings": True,
    "rating_high": "5",
}


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, I cannot do that.",
        "I cannot provide a description of this person.",
        "As an AI language model, I have no opinion.",
        "Unfortunately, I do not know these films.",
        "Sorry, but there is too little here.",
        "I am unable to determine the taste.",
    ],
)
def test_refusals_are_recognised(text: str) -> None:
    assert is_refusal(text)
    assert "refusal" in str(judge(request(), Answer("u1", text)).error)


@pytest.mark.parametrize(
    "text",
    [
        "I Can't Sleep (1994) is a French drama.",
        "Sorry, Wrong Number is a thriller of 1948.",
        "This viewer apologises to nobody: I'm sorry to say horror leads.",
    ],
)
def test_titles_are_no_refusals(text: str) -> None:
    assert judge(request(), Answer("u1", text)).text == text


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer("u1", "  \n"), "empty"),
        (Answer("u1", "Likes dra", cut_off=True), "profile_max_tokens"),
        (Answer("u1", "<think>Let me see"), "empty"),
        (Answer("u1", "", error="no server"), "no server"),
    ],
)
def test_unusable_answers_have_a_reason_and_no_text(answer: Answer, reason: str) -> None:
    judged = judge(request(), answer)
    assert reason in str(judged.error) and judged.text == ""


def test_thoughts_are_left_out() -> None:
    assert judge(request(), Answer("u1", "<think>hm</think>\nLikes war.")).text == "Likes war."


@pytest.mark.parametrize(
    "text", ['{"profile": " Likes war. "}', '```json\n{"profile": "Likes war."}\n```']
)
def test_profile_is_taken_out_of_json(text: str) -> None:
    assert judge(request(answer_key="profile"), Answer("u1", text)).text == "Likes war."


@pytest.mark.parametrize("text", ["Likes war.", '{"summary": "x"}', '["x"]', '{"profile": 3}'])
def test_other_than_the_json_asked_for_is_unusable(text: str) -> None:
    assert "'profile'" in str(judge(request(answer_key="profile"), Answer("u1", text)).error)


class Stubborn(Generator):
    """Answers from a script: one list of texts per token."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self.asked: list[Request] = []

    def answer_batch(self, requests: list[Request]) -> list[Answer]:
        self.asked += requests
        script = {"a": ["Fine."], "b": ["", "Better."], "c": ["", "I cannot help."]}
        return [Answer(r.id, script[r.id][r.attempt], "h", 10, 2) for r in requests]


def test_unusable_answers_are_asked_for_once_more() -> None:
    generator = Stubborn({**SETTINGS, "profile_batch_size": 2})
    answers = {one.id: one for one in generator.answers(map(request, "abc"))}
    assert [answers[token].text for token in "abc"] == ["Fine.", "Better.", ""]
    assert "refusal" in str(answers["c"].error) and answers["b"].error is None
    assert [answers[token].tokens_in for token in "abc"] == [10, 20, 20]
    assert [one.id for one in generator.asked] == ["a", "b", "b", "c", "c"]
    assert "it was empty" in generator.asked[2].messages[-1]["content"]
    assert "empty" not in generator.asked[1].messages[-1]["content"]


def test_generator_by_class_path() -> None:
    path = f"{Stubborn.__module__}.Stubborn"
    assert type(get_generator({**SETTINGS, "profile_generator": path})).__name__ == "Stubborn"
    with pytest.raises(ConfigError, match="not a subclass of Generator"):
        get_generator({**SETTINGS, "profile_generator": "collections.OrderedDict"})


def test_template_describes_users_without_titles(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "recbole_llmkt"):
        generator = get_generator(SETTINGS)
    assert "no language model is used" in caplog.text
    (answer,) = generator.answers([request(context=USER, history="d1")])
    assert answer.text == (
        "This user has 7 interactions. The average rating is 3.7 of 5. Likes Drama (50%), War "
        "(50%). The favourites date from 1990 to 1990, half of them from 1990 or later. Rates "
        "lower Comedy (100%)."
    )
    assert answer.history == "d1" and answer.tokens_in == answer.tokens_out == 0


def test_template_describes_users_without_ratings() -> None:
    (answer,) = get_generator(SETTINGS).answers([request(context={**USER, "has_ratings": False})])
    assert "Chooses Drama (40%), War (40%), Comedy (20%)." in answer.text


def test_template_describes_items_even_refusing_ones() -> None:
    item = {
        "title": "I Cannot Help It",
        "year": "1970",
        "categories": ["Comedy"],
        "text": "Funny.",
        "other": {"year": "1970", "country": "France"},
    }
    (answer,) = get_generator(SETTINGS).answers([request(entity="item", context=item)])
    assert answer.text == "I Cannot Help It (1970). Categories: Comedy. country: France. Funny."


def _from_file(path: Path) -> list[Answer]:
    settings = {**SETTINGS, "profile_generator": "file", "profile_file": str(path)}
    return list(get_generator(settings).answers(map(request, ["u1", "u2", "u3"])))


def test_file_of_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    rows = [{"user_id": "u1", "profile": "Likes war."}, {"id": "u3", "text": "x", "history": "d"}]
    path.write_text("\ufeff" + "\n\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert _from_file(path) == [Answer("u1", "Likes war."), Answer("u3", "x", history="d")]


def test_atomic_file(tmp_path: Path) -> None:
    path = tmp_path / "p.userprof"
    path.write_text("user_id:token\tprofile:token_seq\r\nu2\tLikes \u00e9tudes.\r\n", "utf-8")
    assert _from_file(path) == [Answer("u2", "Likes \u00e9tudes.")]


def test_a_file_says_whose_profiles_it_has(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    rows = [{"item_id": "1", "text": "A film."}, {"user_id": "1", "text": "Likes films."}]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    generator = FileGenerator({**SETTINGS, "profile_file": str(path)})
    answers = generator.answers([request("1"), request("1", entity="item"), request("2")])
    assert [answer.text for answer in answers] == ["Likes films.", "A film."]
    assert entities_of(path) == ("user", "item")
    path.write_text(json.dumps({"id": "1", "text": "Likes films."}), encoding="utf-8")
    with pytest.raises(ConfigError, match="give --entity=user or --entity=item"):
        entities_of(path)
    path.with_suffix(".tsv").write_text("item_id:token\tprofile:token_seq\n1\tA film.\n", "utf-8")
    assert entities_of(path.with_suffix(".tsv")) == ("item",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.jsonl", '{"id": "u1"}\n', "Line 1 of .* needs the keys"),
        ("p.jsonl", '{"id": "u1", "text": "x"}\n{oops\n', "Line 2 of .* is no JSON"),
        ("p.jsonl", '{"id": 1, "text": "x"}\n{"id": "1", "text": "y"}\n', "second profile of '1'"),
        ("p.tsv", "a:token\tb:token\tc:token\n1\t2\t3\n", "Line 2 of .* has 3 cells"),
        ("p.tsv", "a:token\tb:token\n", "no profile in"),
    ],
)
def test_a_broken_file_says_where(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        _from_file(tmp_path / name)


def test_file_must_be_given_and_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="profile_file"):
        get_generator({**SETTINGS, "profile_generator": "file"})
    with pytest.raises(DataError, match="Cannot read profile_file"):
        _from_file(tmp_path / "missing.jsonl")


@pytest.mark.parametrize("value", ["null", "1e5", "true", "[1]", '{"a": 1}', "5.0"])
def test_an_id_that_is_no_text_and_no_whole_number_is_refused(tmp_path: Path, value: str) -> None:
    path = tmp_path / "made.jsonl"
    path.write_text(f'{{"id": {value}, "text": "Likes war."}}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"Line 1 .*whole number"):
        read_profiles(path)


def test_odd_ids_and_texts_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "made.jsonl"
    ids = ["NaN", "null", "1e5", "007", "x\u00a0", "\ud83d", ""]
    lines = [{"id": token, "text": "hm</think>Likes \x1b[31mwar \ud83d."} for token in ids]
    lines.append({"id": 7, "text": "Seven."})
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    found = read_profiles(path)
    assert [token for _, token in found] == [*ids, "7"]
    assert found[None, "NaN"] == ("Likes war ?.", None)
    path.write_bytes(b'{"id": ' + b"[" * 100_000)
    with pytest.raises(DataError, match=r"Line 1 .*no JSON"):
        read_profiles(path)
