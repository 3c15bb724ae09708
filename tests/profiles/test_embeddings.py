"""Embeddings on disk: in step with the texts, or an error that says what to do."""

from __future__ import annotations

import io
import json
import logging

import numpy as np
import pytest

from recbole_llmkt.profiles import embeddings
from recbole_llmkt.profiles.embeddings import (
    build_embeddings,
    embedding_paths,
    read_embeddings,
    text_digest,
)
from recbole_llmkt.profiles.store import Profile, ProfileStore
from recbole_llmkt.utils.exceptions import ProfileError, StorageError


class CountingEncoder:
    """Vectors that tell their text's length; remembers what it was asked."""

    name = "some/encoder"

    def __init__(self, width=4):
        self.width = width
        self.asked: list[str] = []

    def encode(self, texts):
        self.asked += texts
        return np.array([[len(text)] * self.width for text in texts], dtype=np.float32)


@pytest.fixture
def store(tmp_path):
    store = ProfileStore(tmp_path / "profiles", "item")
    add(store, a="x", b="yy", c="x")
    return store


def add(store, **texts):
    with store.writing():
        for token, text in texts.items():
            error = None if text else "empty"
            store.append(Profile(token, text, "g", "", "", None, "t", error=error))


def usable(store):
    return [profile for profile in store.read().values() if profile.usable]


def test_only_changed_texts_are_encoded_again(store):
    encoder = CountingEncoder()
    first = build_embeddings(store, encoder)
    assert (first.ids, first.vectors[:, 0].tolist()) == (["a", "b", "c"], [1, 2, 1])
    assert sorted(encoder.asked) == ["x", "yy"]
    assert first.fits(usable(store))
    add(store, b="zzz", d="", e="vvvv")
    assert not first.fits(usable(store))
    second = build_embeddings(store, encoder)
    assert sorted(encoder.asked[2:]) == ["vvvv", "zzz"]
    assert (second.ids, second.vectors[:, 0].tolist()) == (["a", "b", "c", "e"], [1, 3, 1, 4])
    assert read_embeddings(store.folder, "some/encoder", "item").fits(usable(store))


def test_vectors_are_memory_mapped_and_may_be_half_precision(store):
    built = build_embeddings(store, CountingEncoder(), dtype="float16")
    assert built.vectors.dtype == np.float16
    assert isinstance(built.vectors, np.memmap)
    encoder = CountingEncoder()
    build_embeddings(store, encoder, dtype="float16")
    assert encoder.asked == []
    assert build_embeddings(store, encoder).vectors.dtype == np.float32
    assert sorted(encoder.asked) == ["x", "yy"]  # half precision cannot become single again
    with pytest.raises(ProfileError, match="float16"):
        build_embeddings(store, CountingEncoder(), dtype="int8")


def test_what_was_encoded_before_an_interruption_is_kept(store, monkeypatch):
    monkeypatch.setattr(embeddings, "_CHUNK", 1)
    add(store, **{f"t{number}": "w" * number for number in range(3, 9)})

    class Dying(CountingEncoder):
        def encode(self, texts):
            if len(self.asked) == 3:
                raise KeyboardInterrupt
            return super().encode(texts)

    dying = Dying()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            build_embeddings(store, dying)
    part = embedding_paths(store.folder, "some/encoder", "item")[0].with_suffix(".part")
    part.write_bytes(part.read_bytes() + part.read_bytes()[:100])  # a record that was torn
    rest = CountingEncoder()
    built = build_embeddings(store, rest)
    assert len(dying.asked) == 3 and len(rest.asked) == 5
    assert not set(dying.asked) & set(rest.asked)
    assert not part.exists()
    assert dict(zip(built.ids, built.vectors[:, 0]))["t8"] == 8


def saved(array, **keywords):
    content = io.BytesIO()
    np.save(content, array, **keywords)
    return content.getvalue()


def records(*vectors, text="U16"):
    table = np.empty(len(vectors), dtype=[("text", text), ("vector", "f4", (len(vectors[0]),))])
    table["text"], table["vector"] = [text_digest("x"), "b" * 16][: len(vectors)], vectors
    return saved(table)


DAMAGED = [
    b"garbage",
    b"\x00" * 500,
    b"PK\x03\x04" + b"\x00" * 100,
    b"\x80\x04K\x05.",
    b"\x93NUMPY\x01\x00",
    b"\x93NUMPY\x01\x00\xff\xff{",
    b"\x93NUMPY\x01\x00\x0a\x00{'descr': (",
    b"\x93NUMPY\x09\x09" + b"x" * 90,
    saved(np.ones(3)),
    saved(np.float32(1)),
    saved(np.array([{"a": 1}], dtype=object), allow_pickle=True),
    saved(np.zeros(2, dtype=[("text", "U16"), ("other", "f4", (4,))])),
    saved(np.zeros(2, dtype=[("text", "U16"), ("vector", "f4")])),
    saved(np.zeros(2, dtype=[("text", "f4"), ("vector", "f4", (4,))])),
    saved(np.zeros((1, 2), dtype=[("text", "U16"), ("vector", "f4", (4,))])),
    records([np.nan] * 4),
    records([]),
    records([1.0] * 4) + records([1.0] * 3),
]


@pytest.mark.parametrize("content", DAMAGED, ids=[str(number) for number in range(len(DAMAGED))])
def test_a_damaged_file_of_an_interrupted_run_is_discarded(store, caplog, content):
    part = embedding_paths(store.folder, "some/encoder", "item")[0].with_suffix(".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        built = build_embeddings(store, CountingEncoder())
    assert built.vectors[:, 0].tolist() == [1, 2, 1]
    assert "damaged" in caplog.text and not part.exists()


def test_a_link_in_the_place_of_an_interrupted_run_is_not_followed(store, tmp_path):
    vectors_path, _ = embedding_paths(store.folder, "some/encoder", "item")
    vectors_path.parent.mkdir(parents=True)
    (tmp_path / "other").write_text("kept")
    vectors_path.with_suffix(".part").symlink_to(tmp_path / "other")
    with pytest.raises(StorageError, match="is a link"):
        build_embeddings(store, CountingEncoder())
    assert (tmp_path / "other").read_text() == "kept"


def test_what_comes_before_the_damage_is_kept(store, caplog):
    part = embedding_paths(store.folder, "some/encoder", "item")[0].with_suffix(".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(records([7.0] * 4) + b"garbage")
    encoder = CountingEncoder()
    assert build_embeddings(store, encoder).vectors[:, 0].tolist() == [7, 2, 7]
    assert encoder.asked == ["yy"] and "1 vectors are kept" in caplog.text


def test_a_file_of_an_interrupted_run_of_another_width_is_discarded(store):
    build_embeddings(store, CountingEncoder())
    add(store, d="new")
    part = embedding_paths(store.folder, "some/encoder", "item")[0].with_suffix(".part")
    part.write_bytes(records([7.0] * 9))
    assert build_embeddings(store, CountingEncoder()).vectors.shape == (4, 4)


@pytest.mark.parametrize("content", [b"", *DAMAGED[:9]])
@pytest.mark.parametrize("which", [0, 1])
def test_any_damage_of_finished_vectors_is_an_own_error_and_mended(store, content, which):
    build_embeddings(store, CountingEncoder())
    embedding_paths(store.folder, "some/encoder", "item")[which].write_bytes(content)
    with pytest.raises(ProfileError):
        read_embeddings(store.folder, "some/encoder", "item")
    assert build_embeddings(store, CountingEncoder()).vectors[:, 0].tolist() == [1, 2, 1]


def test_odd_ids_have_vectors(store):
    add(store, **{"nan": "n", "\ud83d": "s", "x\u00a0": "b", "": "e", "1e5": "f"})
    build_embeddings(store, CountingEncoder())
    table = read_embeddings(store.folder, "some/encoder", "item")
    assert table.ids[3:] == ["nan", "\ud83d", "x\u00a0", "", "1e5"]
    assert table.fits(usable(store))


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((2, 0)), "one vector per text"),
        (np.full((2, 4), np.nan), "NaN"),
        (np.full((2, 4), np.inf), "NaN or infinite"),
        (np.ones((1, 4)), "one vector per text"),
        (np.ones(2), "one vector per text"),
    ],
)
def test_encoders_that_return_nonsense_are_refused(store, vectors, message):
    encoder = CountingEncoder()
    encoder.encode = lambda texts: vectors
    with pytest.raises(ProfileError, match=message):
        build_embeddings(store, encoder)
    assert read_embeddings(store.folder, "some/encoder", "item") is None
    assert not list(store.folder.rglob("*.part"))


def test_another_width_under_the_same_name_is_refused(store):
    build_embeddings(store, CountingEncoder(4))
    add(store, d="new")
    with pytest.raises(ProfileError, match="different widths"):
        build_embeddings(store, CountingEncoder(5))


def damage_nan(vectors, header):
    vectors[1] = np.nan


def damage_rows(vectors, header):
    header["ids"].pop()


def damage_width(vectors, header):
    header["dim"] = 7


def damage_encoder(vectors, header):
    header["encoder"] = "another"


def damage_keys(vectors, header):
    del header["texts"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_nan, "NaN.*'b'"),
        (damage_rows, r"\(3, 4\).*2 ids"),
        (damage_width, r"\(3, 4\).*width of 7"),
        (damage_encoder, "made by the encoder 'another'"),
        (damage_keys, "texts"),
    ],
)
def test_damaged_files_are_refused_and_mended_by_encoding_again(store, damage, message):
    build_embeddings(store, CountingEncoder())
    vectors_path, ids_path = embedding_paths(store.folder, "some/encoder", "item")
    vectors, header = np.load(vectors_path), json.loads(ids_path.read_text())
    damage(vectors, header)
    np.save(vectors_path, vectors)
    ids_path.write_text(json.dumps(header))
    with pytest.raises(ProfileError, match=message):
        read_embeddings(store.folder, "some/encoder", "item")
    assert build_embeddings(store, CountingEncoder()).vectors[:, 0].tolist() == [1, 2, 1]


def test_a_pickle_is_never_executed(store):
    build_embeddings(store, CountingEncoder())
    path, _ = embedding_paths(store.folder, "some/encoder", "item")
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ProfileError, match="Cannot read"):
        read_embeddings(store.folder, "some/encoder", "item")


def test_no_profile_no_embedding(tmp_path):
    with pytest.raises(ProfileError, match="llmkt profile"):
        build_embeddings(ProfileStore(tmp_path, "user"), CountingEncoder())


def test_names_of_encoders_become_folders(tmp_path):
    short = embedding_paths(tmp_path, "openai:text-embedding-3-small", "user")[0]
    assert short.parent.name == "openai_text-embedding-3-small"
    long = embedding_paths(tmp_path, "/models/" + "x" * 300, "user")[0]
    assert len(long.parent.name) < 130
    assert long != embedding_paths(tmp_path, "/other/" + "x" * 300, "user")[0]
