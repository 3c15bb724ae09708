"""Loading: joined by token, no leak, masked and never invented."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml

from recbole_llmkt.config import Config
from recbole_llmkt.datasets.history import Histories, history_digest, training_histories
from recbole_llmkt.datasets.splits import build_splits, training_split
from recbole_llmkt.profiles import loading
from recbole_llmkt.profiles.embeddings import embedding_paths
from recbole_llmkt.profiles.generation.run import generate_profiles
from recbole_llmkt.profiles.loading import load_profiles
from recbole_llmkt.profiles.locations import profile_folder
from recbole_llmkt.profiles.store import ProfileStore, write_manifest
from recbole_llmkt.utils.exceptions import LeakError, ProfileError
from tests.helpers import ENCODER, add_profiles, random_vectors, write_profiles


def load(dataset, entity="user", **keys):
    config = dataset.config(**keys)
    return load_profiles(config, training_split(config), entity)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def edit(dataset, change):
    """Append a changed profile of every user."""
    store = ProfileStore(dataset.folder / "profiles", "user")
    with store.writing():
        for profile in store.read().values():
            store.append(change(profile))


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"user_inter_num_interval": "[14,inf)"},
        {"user_inter_num_interval": "[11,inf)", "item_inter_num_interval": "[9,inf)"},
        {"val_interval": {"rating": "[2,inf)"}},
    ],
    ids=["all", "users", "k-core", "by value"],
)
def test_vectors_are_joined_by_token_under_any_filter(tiny, filters):
    config = tiny.config(**filters)
    train = training_split(config)
    tokens = list(train.field2id_token["user_id"][1:])
    assert tokens != sorted(tokens)
    n_left = sum(split.inter_num for split in build_splits(config))
    assert (n_left < len(tiny.rows)) == bool(filters)
    vectors = random_vectors(sorted(tokens))
    histories = loading.training_histories(train).digests()
    # the file is in another order than RecBole's ids, and knows more users than the filter leaves
    shutil.rmtree(tiny.folder / "profiles")
    write_profiles(
        tiny.folder / "profiles",
        "user",
        {**random_vectors(["stranger"]), **vectors},
        {**histories, "stranger": "x"},
    )
    loaded = load_profiles(config, train, "user")
    assert len(loaded.ids) == len(tokens) == loaded.n_entities - 1
    assert (loaded.coverage, loaded.n_leaks, loaded.encoder) == (1.0, 0, ENCODER)
    assert loaded.vectors.dtype == np.float32
    for user_id, vector in zip(loaded.ids, loaded.vectors):
        token = train.field2id_token["user_id"][user_id]
        np.testing.assert_allclose(vector, unit(vectors[token]), rtol=1e-5)


def test_missing_and_failed_profiles_are_no_profiles(make_dataset, caplog):
    dataset = make_dataset()
    add_profiles(dataset, without=["u3", "u4", "i1"])
    store = ProfileStore(dataset.folder / "profiles", "user")
    with store.writing():
        profiles = store.read()
        store.append(replace(profiles["u5"], text="", error="refused"))
        store.append(replace(profiles["u6"], text="   "))
    vectors_path, ids_path = embedding_paths(store.folder, ENCODER, "user")
    vectors, header = np.load(vectors_path), json.loads(ids_path.read_text())
    keep = [row for row, token in enumerate(header["ids"]) if token not in ("u5", "u6")]
    np.save(vectors_path, vectors[keep])
    header.update(
        ids=[header["ids"][row] for row in keep], texts=[header["texts"][row] for row in keep]
    )
    ids_path.write_text(json.dumps(header))
    with caplog.at_level(logging.INFO):
        loaded = load(dataset)
    assert len(loaded.ids) == 26 and loaded.coverage == pytest.approx(26 / 30)
    assert "26 of 30 users" in caplog.text
    assert len(load(dataset, "item").ids) == load(dataset, "item").n_entities - 2


def test_a_refusal_names_the_split_that_the_profiles_belong_to(tiny):
    other = {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user"}}
    own = {"split": {"RS": [0.7, 0.1, 0.2]}, "order": "TO", "group_by": "user"}
    write_manifest(tiny.folder / "profiles", {"eval_args": own})
    with pytest.raises(LeakError, match="set their own split") as refused:
        load(tiny, **other)
    named = re.search(r"\(eval_args: (.*?)\), write", str(refused.value))
    assert yaml.safe_load(named[1]) == own
    write_manifest(tiny.folder / "profiles", other)
    with pytest.raises(LeakError, match=r"test data: write others"):
        load(tiny, **other)


def test_a_refusal_says_which_history_a_sequential_model_needs(tiny):
    config = tiny.config("SASRec", kt_entity="user", train_neg_sample_args=None)
    with pytest.raises(LeakError, match=r"for SASRec end with .*`llmkt profile .*=SASRec`"):
        load_profiles(config, training_split(config), "user")


def test_another_split_is_a_leak(tiny, caplog):
    other = {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user"}}
    with pytest.raises(LeakError, match=r"30 of 30 user.*'u\d+'.*profile_allow_leak: True"):
        load(tiny, **other)
    with caplog.at_level(logging.WARNING):
        assert load(tiny, profile_allow_leak=True, **other).n_leaks == 30
    assert "profile_allow_leak" in caplog.text
    assert load(tiny, "item", **other).n_leaks == 0


def test_one_leaking_profile_is_enough(tiny):
    store = ProfileStore(tiny.folder / "profiles", "user")
    with store.writing():
        store.append(replace(store.read()["u7"], history="0" * 16))
    with pytest.raises(LeakError, match=r"1 of 30 user.*'u7'"):
        load(tiny)


def test_the_mend_of_a_leak_names_the_model_and_corrected_texts(tiny):
    edit(tiny, lambda profile: replace(profile, history="0" * 16, edited=profile.id == "u7"))
    mend = r"--model=BPR.*\(and --overwrite-edits: 1 of them were edited manually\)"
    with pytest.raises(LeakError, match=mend):
        load(tiny)


def test_who_left_the_training_split_has_no_profile(tiny, monkeypatch, caplog):
    digests = training_histories(training_split(tiny.config())).digest_numbers()
    train = training_split(tiny.config())
    gone = train.token2id("user_id", "u7")
    digests[gone] = int(history_digest([]), 16)  # as if all of u7's interactions had gone
    monkeypatch.setattr(Histories, "digest_numbers", lambda histories: digests)
    with caplog.at_level(logging.WARNING):
        loaded = load(tiny)
    assert gone not in loaded.ids and len(loaded.ids) == 29 and "'u7'" in caplog.text
    assert gone in load(tiny, profile_allow_leak=True).ids
    nothing = history_digest([])
    edit(tiny, lambda p: replace(p, history=nothing if p.id == "u7" else p.history))
    assert gone in load(tiny).ids  # written from nothing: it knows nothing


def test_user_profiles_without_a_history_count_as_leaks(tiny):
    edit(tiny, lambda profile: replace(profile, history=None))
    with pytest.raises(LeakError, match="30 of 30"):
        load(tiny)


def test_profiles_of_another_dataset_are_an_error(tiny):
    folder = tiny.folder / "profiles"
    shutil.rmtree(folder)
    write_profiles(folder, "user", random_vectors(["1", "2"]), {})
    with pytest.raises(ProfileError, match=r"None of the 2 profiles.*'1'.*profile_dir"):
        load(tiny)


def test_only_failed_profiles_are_an_error(tiny):
    edit(tiny, lambda profile: replace(profile, text="", error="refused"))
    with pytest.raises(ProfileError, match="retry-failed"):
        load(tiny)


def test_a_vector_of_length_zero_is_named(tiny):
    vectors_path, _ = embedding_paths(tiny.folder / "profiles", ENCODER, "user")
    vectors = np.load(vectors_path)
    vectors[3] = 0
    np.save(vectors_path, vectors)
    with pytest.raises(ProfileError, match="length 0"):
        load(tiny)


class TwoNumbers:
    """An encoder that counts its texts."""

    name = ENCODER
    n_texts = 0

    def encode(self, texts):
        type(self).n_texts += len(texts)
        return np.array([[len(text), 1] for text in texts], dtype=np.float32)


def test_stale_vectors_are_made_anew(tiny, monkeypatch):
    monkeypatch.setattr(loading, "get_encoder", lambda config: TwoNumbers())
    edit(tiny, lambda profile: replace(profile, text=f"new {profile.text}"))
    state = np.random.get_state()[1].copy()
    loaded = load(tiny)
    assert loaded.vectors.shape == (30, 2) and TwoNumbers.n_texts == 30
    load(tiny)
    assert TwoNumbers.n_texts == 30
    assert np.array_equal(state, np.random.get_state()[1])


def test_vectors_of_a_folder_that_is_not_ours_go_to_the_cache(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(loading, "get_encoder", lambda config: TwoNumbers())
    monkeypatch.setattr(os, "access", lambda *arguments: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    edit(tiny, lambda profile: replace(profile, text=f"{profile.text} again"))
    before = sorted(os.listdir(tiny.folder / "profiles" / "embeddings"))
    assert load(tiny).vectors.shape == (30, 2)
    assert sorted(os.listdir(tiny.folder / "profiles" / "embeddings")) == before
    assert list((tmp_path / "cache" / "recbole_llmkt").iterdir())


def test_where_profiles_are_looked_for(tiny, make_dataset, tmp_path):
    assert profile_folder(tiny.config()) == tiny.folder / "profiles"
    elsewhere = tmp_path / "elsewhere"
    config = tiny.config(profile_dir=str(elsewhere))
    with pytest.raises(ProfileError, match=r"no user or item.*elsewhere.*llmkt profile"):
        profile_folder(config)
    shutil.move(tiny.folder / "profiles", elsewhere)
    assert profile_folder(config) == elsewhere
    with pytest.raises(ProfileError, match="llmkt profile --dataset=tiny"):
        load(tiny, profile_generator="openai", profile_model="any")


def test_the_bundled_profiles_are_found_and_complete():
    config = Config("BPR", "ml-100k", command_line=[])
    train = training_split(config)
    for entity, count in (("user", 943), ("item", None)):
        loaded = load_profiles(config, train, entity)
        assert loaded.coverage == 1.0 and loaded.n_leaks == 0
        assert loaded.vectors.shape[1] == 384
        assert count is None or len(loaded.ids) == count
        np.testing.assert_allclose(np.linalg.norm(loaded.vectors, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("generator", ["template", "openai"])
def test_loading_never_writes_profiles(make_dataset, generator):
    dataset = make_dataset(n_users=12, n_items=20, per_user=(6, 9))
    with pytest.raises(ProfileError, match="`llmkt profile --dataset=tiny --entity=item`"):
        load(dataset, "item", profile_generator=generator, profile_model="any")
    assert not (dataset.folder / "profiles").exists()


def test_plain_descriptions_are_written_on_request(make_dataset, monkeypatch):
    monkeypatch.setattr(loading, "get_encoder", lambda config: TwoNumbers())
    dataset = make_dataset(n_users=12, n_items=20, per_user=(6, 9))
    titles = [f"i{number}\tTitle {number}\tDrama Noir" for number in range(20)]
    header = "item_id:token\ttitle:token_seq\tgenre:token_seq"
    (dataset.folder / "tiny.item").write_text("\n".join([header, *titles]) + "\n")
    generate_profiles(dataset.config(), "user")
    loaded = load(dataset)
    assert (loaded.coverage, loaded.n_leaks) == (1.0, 0)
    assert loaded.generator == "template"


def test_damaged_vectors_in_the_cache_are_made_again(tiny, tmp_path, monkeypatch, caplog):
    home = tmp_path / "cache"
    monkeypatch.setattr(loading, "embedding_home", lambda folder: home)
    good = load(tiny).vectors
    for name in ("user.npy", "user.json"):
        path = embedding_paths(home, ENCODER, "user")[0].with_name(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        for source in embedding_paths(tiny.folder / "profiles", ENCODER, "user"):
            shutil.copy(source, path.parent)
        path.write_bytes(b"damaged")
        assert np.array_equal(load(tiny).vectors, good)
        assert "encoded again" in caplog.text
        caplog.clear()
    embedding_paths(tiny.folder / "profiles", ENCODER, "user")[0].write_bytes(b"damaged")
    with pytest.raises(ProfileError, match="Cannot read"):
        load(tiny)


def test_blocks_of_vectors_make_the_same_table(tiny, monkeypatch):
    whole = load(tiny).vectors
    monkeypatch.setattr(loading, "_BLOCK", 7)
    assert np.array_equal(load(tiny).vectors, whole)
    path, _ = embedding_paths(tiny.folder / "profiles", ENCODER, "user")
    vectors = np.load(path)
    vectors[20] = 0
    np.save(path, vectors)
    token = json.loads(path.with_suffix(".json").read_text())["ids"][20]
    with pytest.raises(ProfileError, match=f"'{token}'.* has length 0"):
        load(tiny)
