"""Which profiles a generation run writes."""

from __future__ import annotations

import zlib
from types import SimpleNamespace

import pytest

from recbole_llmkt.profiles.generation.selection import (
    Selection,
    origin_of,
    parse_shard,
    shard_folder,
    wanted_tokens,
)
from recbole_llmkt.profiles.store import Profile, ProfileStore
from recbole_llmkt.utils.exceptions import ConfigError, ProfileError
from tests.profiles.generation.helpers import SETTINGS


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "1/0", "-1/4", "1/4/2", "a/b", ""])
def test_shards_that_are_none(text):
    with pytest.raises(ConfigError, match=r"Cannot read the shard '.*': write 1/16"):
        parse_shard(text)


def test_a_shard_has_a_folder_of_its_own(tmp_path):
    assert parse_shard(" 3/16 ") == (3, 16)
    assert shard_folder(tmp_path, "3/16") == tmp_path / "shards" / "3-of-16"
    with pytest.raises(ConfigError, match="--overwrite-edits cannot be used with --shard"):
        Selection(shard="1/2", overwrite_edits=True)


@pytest.fixture
def requests():
    settings = {**SETTINGS, "profile_generator": "template"}
    digests = {token: f"history of {token}" for token in ("new", "good", "old", "failed", "edited")}
    return SimpleNamespace(entity="user", settings=settings, prompt=None, digests=digests)


def write(folder, requests, **changes):
    origin = {**origin_of(requests), **changes}

    def profile(token, history=None, **values):
        text = "" if values.get("error") else f"Profile of {token}"
        given = {**origin, "history": history or f"history of {token}", **values}
        return Profile(id=token, text=text, time="2024-01-01T00:00:00", **given)

    store = ProfileStore(folder, "user")
    with store.writing():
        store.append(profile("good"))
        store.append(profile("old", history="another history"))
        store.append(profile("failed", error="it was empty"))
        store.append(profile("edited", edited=True))


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (Selection(), ["new", "old"]),
        (Selection(retry_failed=True), ["new", "old", "failed"]),
        (Selection(overwrite_edits=True), ["new", "old", "edited"]),
    ],
)
def test_what_is_missing_or_out_of_date_is_written(tmp_path, requests, selection, wanted):
    write(tmp_path, requests)
    assert wanted_tokens(requests, tmp_path, selection) == (wanted, 5 - len(wanted))


def test_what_others_wrote_stays_with_a_warning_unless_asked_for(tmp_path, requests, caplog):
    write(tmp_path, requests, generator="openai", model="a-model")
    requests.digests["old"] = "another history"
    assert wanted_tokens(requests, tmp_path, Selection())[0] == ["new"]
    assert "2 profiles by another generator, model or prompt are kept" in caplog.text
    assert "(openai a-model)" in caplog.text
    again, _ = wanted_tokens(requests, tmp_path, Selection(overwrite_others=True))
    assert "good" in again
    assert "edited" not in again


@pytest.mark.parametrize(
    ("by", "fix"),
    [
        ({"generator": "openai", "model": "a-model"}, "--profile_generator=openai"),
        ({"generator": "file", "model": "bought.jsonl"}, "--profile_generator=file"),
        ({"model": "b-model"}, "--profile_model=b-model"),
        ({"prompt": "abc"}, "the same prompt"),
    ],
)
def test_what_cost_something_is_not_replaced_by_others_without_being_asked(
    tmp_path, requests, monkeypatch, by, fix
):
    """A history that has changed, and a generator that was forgotten on the command line."""
    own = {**origin_of(requests), "generator": "transformers", "model": "a-model"}
    write(tmp_path, requests, **{**own, **by})
    if by.get("generator") is None:
        module = "recbole_llmkt.profiles.generation.selection"
        monkeypatch.setattr(f"{module}.origin_of", lambda requests: own)
    with pytest.raises(ProfileError, match="1 profiles are out of date, that of 'old'") as refusal:
        wanted_tokens(requests, tmp_path, Selection())
    assert fix in str(refusal.value) and "--overwrite-others" in str(refusal.value)
    wanted, _ = wanted_tokens(requests, tmp_path, Selection(overwrite_others=True))
    assert {"new", "good", "old"} <= {*wanted} and "edited" not in wanted


def test_shards_share_the_entities_out_and_each_looks_at_its_own_store(tmp_path, requests):
    parts = [
        wanted_tokens(requests, tmp_path, Selection(shard=f"{number}/3"))[0] for number in (1, 2, 3)
    ]
    assert sorted(token for part in parts for token in part) == sorted(requests.digests)
    assert all(zlib.crc32(token.encode()) % 3 == 0 for token in parts[0])
    for number in (1, 2, 3):
        write(shard_folder(tmp_path, f"{number}/3"), requests)
    left = [
        wanted_tokens(requests, tmp_path, Selection(shard=f"{number}/3"))[0] for number in (1, 2, 3)
    ]
    assert sorted(token for part in left for token in part) == ["new", "old"]
