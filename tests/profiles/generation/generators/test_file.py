"""Profiles from a file: whose they are, and what is left out."""

from __future__ import annotations

import pytest
from recbole_llmkt.profiles.generation.generators.file import entities_of, read_profiles

from recbole_llmkt.profiles.generation.generators import get_generator
from recbole_llmkt.utils.exceptions import ConfigError, DataError
from tests.profiles.generation.helpers import SETTINGS, request


def generator(path, text):
    path.write_text(text)
    return get_generator({**SETTINGS, "profile_generator": "file", "profile_file": str(path)})


def test_a_profile_of_ones_own_entity_goes_before_one_of_anybody(tmp_path):
    lines = '{"id": 1, "text": "anybody"}\n{"user_id": 1, "text": "user", "history": "feed"}\n'
    made = generator(tmp_path / "file.jsonl", lines)
    assert made.profiles_of("user") == {"1": ("user", "feed")}
    assert made.profiles_of("item") == {"1": ("anybody", None)}
    answers = made.answer_batch([request("1"), request("2"), request("1", entity="item")])
    assert [(one.id, one.text) for one in answers] == [("1", "user"), ("1", "anybody")]


def test_a_file_of_items_has_no_users(tmp_path):
    made = generator(tmp_path / "file.itemprof", "item_id:token\tprofile:token\n1\tA film\n")
    with pytest.raises(DataError, match="has no user profiles: none of its lines says user_id"):
        made.profiles_of("user")
    assert made.model_of(made.settings) == "file.itemprof"


def test_the_lines_say_whose_profiles_they_are(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_text('{"item_id": 1, "text": "a"}\n\n{"user_id": 1, "profile": "b"}\n')
    assert entities_of(path) == ("user", "item")
    path.write_text('{"item_id": 1, "text": "a"}\n{"id": 1, "text": "b"}\n')
    with pytest.raises(ConfigError, match="does not say whose profiles they are: give --entity"):
        entities_of(path)


def test_thoughts_and_escapes_are_no_part_of_a_text(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_text('\ufeff{"id": "a", "text": "<think>hm</think>Likes \\u001b[31mnoir."}\n')
    assert read_profiles(path) == {(None, "a"): ("Likes noir.", None)}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a", "text": "y"}', "Line 2 of .* is a second profile of 'a'"),
        ('{"id": true, "text": "y"}', "Line 2 of .* needs the keys"),
        ('{"id": "b", "text": "y", "history": 3}', "Line 2 of .*'history' is no digest, but 3"),
        ('["b", "y"]', "Line 2 of .* needs the keys"),
        ("[" * 100_000, "Line 2 of .* is no JSON"),
    ],
    ids=["twice", "boolean", "history", "list", "nested"],
)
def test_a_line_that_is_no_profile_is_named(tmp_path, line, message):
    path = tmp_path / "file.jsonl"
    path.write_text(f'{{"id": "a", "text": "x"}}\n{line}\n')
    with pytest.raises(DataError, match=message):
        read_profiles(path)
