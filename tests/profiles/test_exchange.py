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
from recbole_llmkt.utils.exceptions import DataError
from tests.helpers import DIM_TEXT, ENCODER, random_vectors

CONFIG = {
    "field_separator": "\t",
    "seq_separator": " ",
    "encoding": "utf-8",
    "USER_ID_FIELD": "user_id",
    "profile_encoder": ENCODER,
    "profile_max_tokens": 400,
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
        for profile in profiles:
            store.append(profile)


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
    profiles = store.read()
    assert profiles["1"] == ASKED
    assert (profiles["2"].text, profiles["2"].generator) == ("Likes horror", "file")
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
    assert "1 profiles in" in caplog.text and "edited by hand" in caplog.text


def test_a_correction_gives_way_where_that_is_asked_for(store, exported, caplog):
    edit(store)
    assert import_profiles(store, exported, CONFIG, overwrite_edits=True) == 1
    profile = store.read()["1"]
    assert (profile.text.split(), profile.edited) == (ASKED.text.split(), False)
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


ODD_IDS = ["NaN", "nan", "null", "None", "NA", "<NA>", "1e5", "007", "", "x\u00a0", " 5", "\ud83d"]


def test_odd_ids_survive_export_and_import_to_the_letter(tmp_path):
    store = ProfileStore(tmp_path / "profiles", "user")
    write(store, *(replace(ASKED, id=token, text=f"Text {n}") for n, token in enumerate(ODD_IDS)))
    assert list(store.read()) == ODD_IDS
    path = profile_path(tmp_path, "mine", "user")
    export_profiles(store, path, CONFIG)
    other = ProfileStore(tmp_path / "other", "user")
    assert import_profiles(other, path, CONFIG) == len(ODD_IDS)
    assert [profile.id for profile in other.read().values()] == ODD_IDS
    assert {profile.text for profile in other.read().values()} == {
        f"Text {n}" for n in range(len(ODD_IDS))
    }
    assert import_profiles(other, path, CONFIG) == 0
    write_embeddings(store, ENCODER, store.usable(), random_vectors(ODD_IDS))
    vectors = embedding_path(tmp_path, "mine", "user")
    export_embeddings(read_embeddings(store.folder, ENCODER, "user"), "user", vectors, CONFIG)
    assert import_embeddings(other, vectors, CONFIG) == len(ODD_IDS)
    embeddings = read_embeddings(other.folder, ENCODER, "user")
    assert embeddings.ids == ODD_IDS and embeddings.fits(other.usable())


def test_an_id_that_the_encoding_lacks_is_refused(tmp_path):
    store = ProfileStore(tmp_path / "profiles", "user")
    write(store, replace(ASKED, id="映画"))
    with pytest.raises(DataError, match="cannot be written in latin-1: set encoding"):
        export_profiles(store, tmp_path / "mine.userprof", {**CONFIG, "encoding": "latin-1"})
    assert not (tmp_path / "mine.userprof").exists()


def test_imported_texts_are_clean_and_of_bounded_length(store, tmp_path):
    path = tmp_path / "mine.userprof"
    path.write_text("uid:token\tprofile:token_seq\n7\tLikes \x1b[31mwar\x07\n", encoding="utf-8")
    assert import_profiles(store, path, CONFIG) == 1
    assert store.read()["7"].text == "Likes war"
    path.write_text(f"uid:token\tprofile:token_seq\n8\t{'x' * 4001}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"'8'.*4001 characters.*raise profile_max_tokens"):
        import_profiles(store, path, CONFIG)
    assert "8" not in store.read()
