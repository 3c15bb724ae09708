"""Profiles that were made elsewhere."""

from __future__ import annotations

import json

import pytest

from recbole_llmkt.profiles.exchange import import_external
from recbole_llmkt.profiles.external import entities_in, external_profiles, read_external
from recbole_llmkt.profiles.store import ProfileStore
from recbole_llmkt.utils.exceptions import ConfigError, DataError


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file: text, or rows of JSON."""

    def write_file(name, content):
        path = tmp_path / name
        text = content if isinstance(content, str) else "\n\n".join(map(json.dumps, content))
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def texts(path, entity, config):
    return {
        profile.id: (profile.text, profile.history)
        for profile in external_profiles(path, entity, config)
    }


def test_json_lines(write, tiny):
    rows = [{"user_id": "u1", "profile": "Likes war."}, {"id": "u3", "text": "x", "history": "d"}]
    path = write("p.jsonl", "\ufeff" + "\n\n".join(map(json.dumps, rows)))
    assert texts(path, "user", tiny.config()) == {"u1": ("Likes war.", None), "u3": ("x", "d")}
    (first, _) = external_profiles(path, "user", tiny.config())
    assert (first.generator, first.model) == ("file", "p.jsonl")


@pytest.mark.parametrize("name", ["user_id", "uid", "customer"])
@pytest.mark.parametrize("text", ["text", "profile"])
def test_ids_may_be_named_by_the_datasets_own_field(write, tiny, name, text):
    config = tiny.config()
    config["USER_ID_FIELD"] = "customer"
    expected = {"u2": ("Likes \u00e9tudes.", None)}
    path = write("p.jsonl", [{name: "u2", text: "Likes \u00e9tudes."}])
    assert texts(path, "user", config) == expected
    assert entities_in(path, config) == ("user",)
    for header in (f"{name}:token\t{text}:token_seq\r\n", f"{name}\t{text}\n"):
        path = write("p.tsv", f"{header}u2\tLikes \u00e9tudes.\r\n")
        assert texts(path, "user", config) == expected


def test_a_file_says_whose_profiles_it_has(write, tiny):
    rows = [{"item_id": "1", "text": "A film."}, {"user_id": "1", "text": "Likes films."}]
    path, config = write("p.jsonl", rows), tiny.config()
    assert texts(path, "user", config) == {"1": ("Likes films.", None)}
    assert texts(path, "item", config) == {"1": ("A film.", None)}
    assert entities_in(path, config) == ("user", "item")
    path = write("p.jsonl", [{"id": "1", "text": "Likes films."}])
    with pytest.raises(ConfigError, match="give --entity=user or --entity=item"):
        entities_in(path, config)
    path = write("p.jsonl", [{"user_id": "1", "text": "Likes films."}])
    with pytest.raises(DataError, match="has no item profiles: no line has the key item_id"):
        external_profiles(path, "item", config)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.jsonl", '{"id": "u1"}\n', "line 1: a profile needs"),
        ("p.jsonl", '{"id": "u1", "text": "x"}\n{oops\n', "line 2: not readable as JSON"),
        ("p.jsonl", '{"id": 1, "text": "x"}\n{"id": "1", "text": "y"}\n', "second profile of '1'"),
        ("p.jsonl", '{"id": "u1", "text": "x", "history": 3}\n', "'history' must be text"),
        ("p.jsonl", '{"id": ' + "[" * 100_000 + "\n", "line 1: not readable as JSON"),
        ("p.tsv", "id:token\tb:token\n1\t2\n", "needs a column of ids .* and one of texts"),
        ("p.tsv", "id:token\ttext:token\n1\t2\t3\n", "Line 2 of .* a row of 3 cells"),
        ("p.tsv", "id:token\ttext:token\n", "no profile in"),
    ],
)
def test_a_broken_file_says_where(write, tiny, name, text, message):
    with pytest.raises(DataError, match=message):
        read_external(write(name, text), tiny.config())


def test_a_missing_file_is_named(tiny, tmp_path):
    with pytest.raises(DataError, match=r"There is no file .*missing\.jsonl"):
        read_external(tmp_path / "missing.jsonl", tiny.config())


@pytest.mark.parametrize("value", ["null", "1e5", "true", "[1]", '{"a": 1}', "5.0"])
def test_an_id_that_is_no_text_and_no_whole_number_is_refused(write, tiny, value):
    path = write("p.jsonl", f'{{"id": {value}, "text": "Likes war."}}\n')
    with pytest.raises(DataError, match=r"line 1: .*whole number"):
        read_external(path, tiny.config())


def test_odd_ids_and_texts(write, tiny):
    ids = ["NaN", "null", "1e5", "007", "x\u00a0", "\ud83d", ""]
    rows = [{"id": token, "text": "hm</think>Likes \x1b[31mwar \ud83d."} for token in ids]
    path = write("p.jsonl", [*rows, {"id": 7, "text": "Seven."}])
    profiles = texts(path, "user", tiny.config())
    assert list(profiles) == [*ids, "7"]
    assert profiles["NaN"] == ("Likes war ?.", None)


def test_a_text_beyond_the_limit_is_refused_before_anything_is_written(write, tiny, tmp_path):
    rows = [{"user_id": "u1", "text": "x"}, {"user_id": "u2", "text": "y" * 100}]
    store = ProfileStore(tmp_path / "new", "user")
    with pytest.raises(DataError, match="line 3: the profile of 'u2' cannot be imported"):
        import_external(store, write("p.jsonl", rows), tiny.config(profile_max_tokens=5))
    assert not store.folder.exists()


def test_importing_twice_adds_nothing_and_corrections_stay(write, tiny, tmp_path):
    store, config = ProfileStore(tmp_path / "new", "user"), tiny.config()
    path = write("p.jsonl", [{"user_id": f"u{n}", "text": f"Text {n}"} for n in range(3)])
    assert import_external(store, path, config) == 3
    assert import_external(store, path, config) == 0
