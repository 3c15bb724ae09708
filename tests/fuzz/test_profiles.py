"""Profiles: stores, manifests, files made elsewhere, vectors."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recbole_llmkt.profiles.embeddings import build_embeddings, embedding_paths, read_embeddings
from recbole_llmkt.profiles.exchange import import_embeddings, import_profiles
from recbole_llmkt.profiles.external import entities_in, external_profiles
from recbole_llmkt.profiles.store import Profile, ProfileStore, read_manifest, write_manifest
from recbole_llmkt.utils.exceptions import LLMKTError
from tests.fuzz.cases import TEXT, as_json, changed, damaged, no_leftovers, survives

PROFILES = [Profile(f"u{n}", f"Likes {n}.", "test", "", "", None, "2024-01-01") for n in range(3)]
LINE = {
    **{"id": "u1", "text": "Likes noir.", "generator": "g", "model": "m", "prompt": "p"},
    **{"history": None, "time": "2024-01-01", "tokens_in": 1, "tokens_out": 2, "error": None},
}
LINES = b"".join(as_json({**LINE, "id": f"u{n}"}) + b"\n" for n in range(3))
MANIFEST = {"format": 1, "dataset": "tiny", "eval_args": {"split": {"RS": [8, 1, 1]}}}
TABLE = b"user_id:token\tprofile:token_seq\nu1\tLikes noir.\nu2\tLikes jazz.\n"
VECTORS = b"uid:token\tuser_emb:float_seq\nu0\t0.1 0.2\nu1\t0.3 0.4\nu2\t1 2\n"


class Encoder:
    """Three numbers of a text."""

    name = "encoder"

    def encode(self, texts):
        return np.array([[len(text), text.count("1"), 1] for text in texts], dtype=np.float32)


def store_of(folder, content=None):
    store = ProfileStore(folder / "profiles", "user")
    store.folder.mkdir(exist_ok=True)
    if content is None:
        store.path.unlink(missing_ok=True)
        with store.writing():
            for profile in PROFILES:
                store.append(profile)
    else:
        store.path.write_bytes(content)
    return store


def write_one(store):
    with store.writing():
        store.append(PROFILES[0])


@given(damaged(LINES) | changed(LINE).map(as_json).map(lambda line: LINES + line + b"\n"))
@example(b"[" * 100_000 + b"\n")
@example(b'{"id": "u1", "text": "x", "tokens_in": 1e400}\n')
def test_a_store(tmp_path, content):
    store = store_of(tmp_path, content)
    before = survives(store.read)
    survives(write_one, store)
    survives(store.merge, [store])
    after = survives(store.read)
    if not isinstance(before, LLMKTError):
        assert {**before, "u0": after["u0"]} == after  # nothing is lost


@given(changed(MANIFEST).map(as_json) | damaged(as_json(MANIFEST)))
@example(b"[" * 100_000)
@example(b'{"format": Infinity}')
@example(b'{"format": "1"}')
def test_a_manifest(tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    survives(read_manifest, tmp_path)
    if isinstance(survives(write_manifest, tmp_path, {"dataset": "tiny"}), LLMKTError):
        assert path.read_bytes() == content
    no_leftovers(tmp_path)


@given(
    st.sampled_from(["made.jsonl", "made.user", "made.csv"]),
    damaged(LINES) | damaged(TABLE) | changed(LINE).map(as_json),
)
@example("made.jsonl", b'{"user_id": 1e400, "text": []}\n')
def test_profiles_made_elsewhere(tmp_path, config, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    store = store_of(tmp_path)
    for read in (entities_in, lambda *given: external_profiles(given[0], "user", given[1])):
        survives(read, path, config)
    survives(import_profiles, store, path, config)
    assert {"u0", "u1", "u2"} <= store.read().keys()


@given(damaged(VECTORS))
@example(VECTORS.replace(b"0.2", b"1e400"))
def test_vectors_made_elsewhere(tmp_path, config, content):
    path = tmp_path / "made.useremb"
    path.write_bytes(content)
    survives(import_embeddings, store_of(tmp_path), path, config)
    no_leftovers(tmp_path)


def npy(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


TABLES = st.sampled_from(
    [
        *(np.zeros((3, 3)), np.zeros((3, 0), np.float32), np.zeros(3), np.zeros((3, 3, 3))),
        *(np.full((3, 3), np.nan, np.float32), np.zeros((2, 3), np.float32), np.array("x")),
        *(np.zeros((3, 3), "U4"), np.zeros((3, 3), np.complex64), np.zeros((3, 3), np.int64)),
        *(np.zeros((3, 3), "M8[s]"), np.zeros(3, [("text", "U16"), ("vector", "f4", 3)])),
    ]
).map(npy)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the bytes of vectors, of their ids, and of an unfinished file."""
    folder = tmp_path_factory.mktemp("made")
    store = store_of(folder)
    build_embeddings(store, Encoder())
    vectors, ids = embedding_paths(store.folder, Encoder.name, "user")
    records = np.zeros(2, [("text", "U16"), ("vector", "f4", 3)])
    records["text"] = ["0" * 16, "1" * 16]
    return vectors.read_bytes(), ids.read_bytes(), npy(records)


@given(st.data())
def test_vectors(tmp_path, made, data):
    store = store_of(tmp_path)
    vectors, ids = embedding_paths(store.folder, Encoder.name, "user")
    vectors.parent.mkdir(parents=True, exist_ok=True)
    header = changed(json.loads(made[1])).map(as_json)
    vectors.write_bytes(data.draw(st.just(made[0]) | damaged(made[0]) | TABLES))
    ids.write_bytes(data.draw(st.just(made[1]) | damaged(made[1]) | header))
    part = vectors.with_suffix(".part")
    part.write_bytes(data.draw(st.just(b"") | damaged(made[2]) | TABLES))
    survives(read_embeddings, store.folder, Encoder.name, "user")
    built = survives(build_embeddings, store, Encoder())
    if not isinstance(built, LLMKTError):
        assert np.isfinite(built.vectors).all() and not part.exists()
    no_leftovers(tmp_path)


@given(TEXT, TEXT)
@example("\ud800", "\x1b]0;title\x07")
def test_any_text_and_id_are_kept(tmp_path, token, text):
    store = store_of(tmp_path)
    with store.writing():
        store.append(Profile(token, text, "g", "m", "p", None, "2024-01-01"))
    assert token in store.read()


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    from recbole_llmkt.config import Config

    folder = tmp_path_factory.mktemp("data")
    (folder / "tiny").mkdir()
    (folder / "tiny" / "tiny.inter").write_text("user_id:token\titem_id:token\nu0\ti0\n")
    keys = {"data_path": str(folder), "load_col": {"inter": ["user_id", "item_id"]}}
    return Config("BPR", "tiny", config_dict=keys, command_line=[])
