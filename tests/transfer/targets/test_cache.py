"""Mapped profile embeddings on the disk."""

from __future__ import annotations

import dataclasses
import logging
import threading
import zipfile

import numpy as np
import pytest
import torch

from recbole_llmkt.transfer.targets import build
from recbole_llmkt.transfer.targets.build import build_targets
from recbole_llmkt.transfer.targets.cache import cached, content_digest
from tests.transfer.targets.test_build import profiles

SHAPE = (3, 2)


class Counter:
    """A transform that counts its runs."""

    def __init__(self):
        self.runs = 0

    def __call__(self, *_):
        self.runs += 1
        return np.full(SHAPE, self.runs, dtype=np.float32)


def test_computed_once(tmp_path):
    compute = Counter()
    first, again = (cached(tmp_path / "deep" / "er", "abc", SHAPE, compute) for _ in range(2))
    assert compute.runs == 1
    np.testing.assert_array_equal(first, again)
    cached(tmp_path / "deep" / "er", "other", SHAPE, compute)
    assert compute.runs == 2


@pytest.mark.parametrize(
    "damage", ["cut", "flipped", "empty", "text", "shape", "pickle", "array", "header", "dtype"]
)
def test_a_damaged_file_is_computed_anew_with_a_warning(tmp_path, damage, caplog):
    compute = Counter()
    cached(tmp_path, "abc", SHAPE, compute)
    path = tmp_path / "abc.npz"
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        middle = content.index(b"NUMPY") + 130
        content[middle] ^= 255
    harmed = {"cut": content[:-40], "empty": b"", "text": b"no archive"}.get(damage, content)
    written = {
        "shape": np.zeros((1, 1), dtype=np.float32),
        "dtype": np.zeros(SHAPE, dtype=np.float64),
        "pickle": np.array([{"a": 1}], dtype=object),
    }
    if damage in written:
        np.savez(path, values=written[damage])
    elif damage == "array":  # numpy gives an array, no archive
        with path.open("wb") as file:
            np.save(file, np.ones(SHAPE))
    elif damage == "header":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("values.npy", b"\x93NUMPY\x01\x00\x0a\x00{'descr': (")
    else:
        path.write_bytes(harmed)
    with caplog.at_level(logging.WARNING):
        values = cached(tmp_path, "abc", SHAPE, compute)
    assert compute.runs == 2 and (values == 2).all()
    assert "damaged" in caplog.text and str(path) in caplog.text
    assert (cached(tmp_path, "abc", SHAPE, compute) == 2).all() and compute.runs == 2


def test_runs_at_the_same_time_compute_once(tmp_path):
    compute, inside, results = Counter(), threading.Event(), []

    def slow():
        inside.set()
        threading.Event().wait(0.3)
        return compute()

    threads = [
        threading.Thread(target=lambda: results.append(cached(tmp_path, "abc", SHAPE, slow)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
        inside.wait()
    for thread in threads:
        thread.join()
    assert compute.runs == 1 and len(results) == 3


def test_the_digest_follows_everything_that_the_result_depends_on():
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    base = (table[:2], table, "umap", 2, 7, "umap-learn 0.5")
    others = [
        (table[1:3], *base[1:]),
        (base[0], table + 1, *base[2:]),
        (*base[:2], "pca", *base[3:]),
        (*base[:3], 3, *base[4:]),
        (*base[:4], 8, base[5]),
        (*base[:5], "umap-learn 0.6"),
        (table[:3], table[:3], *base[2:]),
    ]
    digests = {content_digest(*content) for content in (base, *others)}
    assert len(digests) == len(others) + 1 and content_digest(*base) in digests


@pytest.fixture
def counted(monkeypatch):
    """A slow transform of the installed scikit-learn that counts its runs."""
    seen = []

    def slow(fit, vectors, width, seed):
        seen.append(seed)
        np.random.rand()
        return vectors[:, :width] + seed

    monkeypatch.setitem(build.TRANSFORMS, "umap", slow)
    monkeypatch.setitem(build.SLOW_TRANSFORMS, "umap", "scikit-learn")
    return seen


def test_all_arms_of_a_seed_share_one_run(tmp_path, counted):
    """The control comes after the transform, so shuffled and true targets are one computation."""
    vectors = dataclasses.replace(profiles(), home=tmp_path)
    tables = [
        build_targets(vectors, 4, "umap", arm, seed=5) for arm in ("none", "shuffled", "random")
    ]
    assert counted == [5]
    again = build_targets(vectors, 4, "umap", "shuffled", seed=5)
    assert torch.equal(again.values, tables[1].values) and counted == [5]
    assert not torch.equal(tables[0].values, tables[1].values)
    build_targets(vectors, 4, "umap", "none", seed=6)
    build_targets(vectors, 5, "umap", "none", seed=5)
    assert counted == [5, 6, 5]


def test_the_quick_transforms_and_profiles_without_a_home_write_nothing(tmp_path, counted):
    vectors = dataclasses.replace(profiles(), home=tmp_path / "home")
    for name in ("pca", "pca_whiten", "random"):
        build_targets(vectors, 4, name)
    build_targets(profiles(), 4, "umap")
    assert not vectors.home.exists() and counted == [0]


def test_a_run_keeps_targets_beside_its_embeddings(tiny, counted):
    from tests.helpers import prepare

    for control in ("none", "shuffled"):
        run = prepare(tiny.config("BPR", kt_transform="umap", kt_control=control, epochs=2))
        run.fit()
    assert len(counted) == 1
    assert len(list((tiny.folder / "profiles" / "targets").glob("*.npz"))) == 1
