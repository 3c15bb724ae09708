"""Profiles as numbers: the same answers as from the profiles themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recbole_llmkt.datasets.history import history_digest
from recbole_llmkt.profiles.embeddings import Embeddings, text_digest
from recbole_llmkt.profiles.index import ProfileIndex, digest_of_lines
from recbole_llmkt.profiles.loading import texts_digest
from recbole_llmkt.profiles.store import Profile, ProfileStore

TOKENS = np.array(["[PAD]", "b", "a", "c", "d"])
NOTHING = history_digest([])


def profile(token, text="text", history=None, **values):
    return Profile(token, text, "test", "m", "", history, "2026-01-01", **values)


def index_of(tmp_path, *profiles):
    store = ProfileStore(tmp_path, "user")
    with store.writing():
        for written in profiles:
            store.append(written)
    numbers = {token: number for number, token in enumerate(TOKENS)}
    return ProfileIndex.read(store, TOKENS, numbers), store


def embeddings_of(texts):
    digests = [text_digest(text) for text in texts.values()]
    return Embeddings("e", list(texts), digests, np.ones((len(texts), 2), np.float16))


def test_the_last_line_of_an_id_counts(tmp_path):
    index, store = index_of(
        tmp_path,
        profile("a", "old"),
        profile("b"),
        profile("stranger"),
        profile("other stranger"),
        profile("a", "new", edited=True, history="f" * 16),
        profile("b", "", error="refused"),
        profile("stranger", " "),
        profile("[PAD]", "padding"),
    )
    assert index.ids.tolist() == [2] and index.edited[2]
    assert index.texts[2] == int(text_digest("new"), 16)
    assert index.histories[2] == 2**64 - 1
    assert list(index.others) == ["other stranger", "[PAD]"] and len(index) == 3
    assert index.texts_digest() == texts_digest(store.usable())
    lines = ["a 1", "b 2"]
    assert digest_of_lines(lines) == digest_of_lines(lines[::-1]) == text_digest("a 1\nb 2")


@pytest.mark.parametrize(
    ("history", "is_outdated"),
    [("1" * 16, False), ("2" * 16, True), ("x", True), ("1" * 17, True), ("", True), (None, True)],
)
def test_a_history_is_that_of_today_or_outdated(tmp_path, history, is_outdated):
    index, _ = index_of(tmp_path, profile("b", history=history))
    today = np.full(len(TOKENS), int("1" * 16, 16), dtype=np.uint64)
    assert index.outdated(index.ids, today).tolist() == [is_outdated]
    assert index.outdated(index.ids, None).tolist() == [history is not None]


def test_absent_is_who_has_no_interactions_and_a_profile_from_some(tmp_path):
    histories = {"b": NOTHING, "a": "1" * 16, "c": None, "d": "1" * 16}
    index, _ = index_of(tmp_path, *(profile(token, history=h) for token, h in histories.items()))
    today = np.array([0, *[int(NOTHING, 16)] * 3, 1], dtype=np.uint64)
    assert index.absent(index.ids, today).tolist() == [False, True, True, False]


def test_vectors_fit_exactly_their_profiles(tmp_path):
    texts = {"c": "one", "stranger": "two", "a": "three"}
    index, store = index_of(tmp_path, *(profile(token, text) for token, text in texts.items()))
    fitting = embeddings_of(texts)
    assert fitting.fits(store.usable())
    assert index.rows_of(fitting).tolist() == [-1, -1, 2, 0, -1]
    misfits = [
        embeddings_of({**texts, "b": "four"}),
        embeddings_of({**texts, "more": "four"}),
        embeddings_of({**texts, "a": "changed"}),
        embeddings_of({**texts, "stranger": "changed"}),
        embeddings_of({"c": "one", "stranger": "two"}),
        embeddings_of({"c": "one", "a": "three"}),
        replace(fitting, texts=["", *fitting.texts[1:]]),
        replace(fitting, texts=[fitting.texts[0], "", fitting.texts[2]]),
    ]
    for other in misfits:
        assert index.rows_of(other) is None and not other.fits(store.usable())


def test_writers_are_named_once(tmp_path):
    index, _ = index_of(
        tmp_path, profile("b"), profile("c"), replace(profile("a"), generator="t", model="")
    )
    assert index.writers(index.ids) == "t, test:m"
    assert index.writers(np.array([1])) == "test:m"
