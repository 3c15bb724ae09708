"""Atomic files of profiles: what an import changes, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recbole_llmkt.profiles.embeddings import read_embeddings, write_embeddings
from recbole_llmkt.profiles.exchange import (
    embedding_path,
    export_embeddings,
    export_profiles,
    import_embeddings,
    import_profiles,
    profile_path,
)
from recbole_llmkt.profiles.store import Profile, ProfileStore, utc_now
from tests.helpers import DIM_TEXT, ENCODER, random_vectors

CONFIG = {
    "field_separator": "\t",
    "seq_separator": " ",
    "encoding": "utf-8",
    "USER_ID_FIELD": "user_id",
    "profile_encoder": ENCODER,
}
ASKED = Profile("1", "Likes\n\n- noir,  often", "openai", "m", "p", "h", utc_now(), 90, 12)
OTHER = replace(ASKED, id="2", text="Likes 映画")


@pytest.fixture
def store(tmp_path):
    store = ProfileStore(tmp_path / "profiles", "user")
    write(store, ASKED, OTHER)
    return store


@pytest.fixture
def exported(store, tmp_path):
    path = profile_path(tmp_path / "out", "mine", "user")
    assert export_profiles(store, path, CONFIG) == 2
    return path


def write(store, *profiles):
    with store.writing():
        for one in profiles:
            store.append(one)


def edit(store):
    corrected = replace(ASKED, text="Likes comedies", edited=True)
    write(store, corrected)
    return corrected


@pytest.mark.parametrize(
    "changes",
    [{}, {"seq_separator": ","}, {"seq_separator": ", "}, {"encoding": "latin-1"}],
    ids=["RecBole's own", "comma", "comma and blank", "latin-1"],
)
def test_an_unchanged_export_changes_nothing(store, tmp_path, changes):
    config, before = {**CONFIG, **changes}, store.path.read_bytes()
    path = tmp_path / "mine.userprof"
    export_profiles(store, path, config)
    assert import_profiles(store, path, config) == 0
    assert store.path.read_bytes() == before


def test_what_a_file_does_not_tell_is_no_change(store, tmp_path):
    path = tmp_path / "mine.userprof"
    path.write_text("user_id:token\tprofile:token_seq\n1\tLikes - noir, often\n2\tLikes horror\n")
    assert import_profiles(store, path, CONFIG) == 1
    found = store.read()
    assert found["1"] == ASKED
    assert (found["2"].text, found["2"].generator) == ("Likes horror", "file")
    assert import_profiles(store, path, CONFIG) == 0


def test_another_origin_is_a_change(store, exported):
    write(store, replace(ASKED, history="another"))
    assert import_profiles(store, exported, CONFIG) == 1
    assert store.read()["1"].history == "h"


def test_a_failed_profile_is_taken_from_the_file(store, exported):
    write(store, replace(ASKED, error="refused"))
    assert import_profiles(store, exported, CONFIG) == 1
    assert store.read()["1"].usable


def test_a_correction_by_hand_stays(store, exported, caplog):
    corrected = edit(store)
    assert import_profiles(store, exported, CONFIG) == 0
    assert store.read() == {"1": corrected, "2": OTHER}
    assert "1 profiles in" in caplog.text and "corrected by hand" in caplog.text


def test_a_correction_gives_way_where_that_is_asked_for(store, exported, caplog):
    edit(store)
    assert import_profiles(store, exported, CONFIG, overwrite_edits=True) == 1
    found = store.read()["1"]
    assert (found.text.split(), found.edited) == (ASKED.text.split(), False)
    assert caplog.text == ""


def test_a_correction_does_not_get_the_vector_of_another_text(store, exported, caplog):
    vectors = random_vectors(["1", "2"])
    made = write_embeddings(store, ENCODER, store.usable(), vectors)
    path = embedding_path(exported.parent, "mine", "user")
    export_embeddings(made, "user", path, CONFIG)
    assert import_embeddings(store, path, CONFIG) == 2
    edit(store)
    assert import_embeddings(store, path, CONFIG) == 1
    assert "1 vectors in" in caplog.text
    kept = read_embeddings(store.folder, ENCODER, "user")
    assert kept.ids == ["2"] and kept.vectors.shape == (1, DIM_TEXT)
    assert np.array_equal(kept.vectors[0], vectors["2"])
    exported.unlink()  # vectors alone are taken at their word
    assert import_embeddings(store, path, CONFIG) == 2
