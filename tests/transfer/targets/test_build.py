"""Targets: the fixed map of profile embeddings to the layer's width."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from recbole_llmkt.profiles.loading import ProfileVectors
from recbole_llmkt.transfer.targets import build
from recbole_llmkt.transfer.targets.build import TRANSFORMS, build_targets, widest
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.randomness import get_random_state


def profiles(n: int = 30, dim: int = 12, n_entities: int | None = None) -> ProfileVectors:
    """Profiles of every second id, of embeddings whose columns vary by different amounts."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((n, dim)) * np.linspace(3.0, 0.1, dim)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.arange(n, dtype=np.int64) * 2 + 1
    n_entities = n_entities or 2 * n + 3
    return ProfileVectors("user", ids, vectors.astype(np.float32), n_entities, "test", "test")


@pytest.mark.parametrize("name", sorted(set(TRANSFORMS) - {"umap"}))
def test_table_has_a_row_for_every_id_and_a_mask_of_those_with_a_profile(name):
    vectors = profiles()
    table = build_targets(vectors, 12, name)
    assert table.values.shape == (vectors.n_entities, 12) and table.values.dtype == torch.float32
    assert table.mask.dtype == torch.bool
    assert table.mask.nonzero().flatten().tolist() == vectors.ids.tolist()
    assert not table.mask[0]
    assert (table.values[~table.mask] == 0).all()
    assert (table.values[table.mask].abs().sum(1) > 0).all()


def test_none_keeps_the_embeddings():
    vectors = profiles()
    np.testing.assert_array_equal(
        build_targets(vectors, 12, "none").values[vectors.ids], vectors.vectors
    )


def test_pca_keeps_the_directions_of_largest_variance():
    vectors = profiles()
    values = build_targets(vectors, 4, "pca").values[vectors.ids].numpy()
    centred = vectors.vectors - vectors.vectors.mean(axis=0)
    variances = np.linalg.svd(centred, compute_uv=False)[:4] ** 2 / (len(centred) - 1)
    np.testing.assert_allclose(values.var(axis=0, ddof=1), variances, rtol=1e-4)
    np.testing.assert_allclose(values.mean(axis=0), 0.0, atol=1e-6)
    # Distances in the whole space are those of a full-width projection.
    full = build_targets(vectors, 12, "pca").values[vectors.ids].numpy()
    np.testing.assert_allclose(
        np.linalg.norm(full[0] - full[1:], axis=1),
        np.linalg.norm(vectors.vectors[0] - vectors.vectors[1:], axis=1),
        rtol=1e-3,
    )


def test_pca_whiten_gives_every_direction_unit_variance():
    vectors = profiles()
    values = build_targets(vectors, 4, "pca_whiten").values[vectors.ids].numpy()
    np.testing.assert_allclose(np.cov(values, rowvar=False), np.eye(4), atol=1e-4)


def test_random_keeps_squared_lengths_on_average_and_may_widen():
    vectors = profiles(200, 12)
    values = build_targets(vectors, 4000, "random").values[vectors.ids].numpy()
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1.0, atol=0.1)


@pytest.mark.parametrize("name", ["pca", "pca_whiten"])
def test_the_transform_is_fitted_on_trained_ids_only(name):
    """The projection of a trained user is the same, whatever the others' profiles are."""
    vectors = profiles()
    trained = vectors.ids[:20]
    changed = vectors.vectors.copy()
    changed[20:] = -5.0 * changed[20:]
    other = ProfileVectors("user", vectors.ids, changed, vectors.n_entities, "test", "test")
    first = build_targets(vectors, 4, name, trained_ids=trained).values
    second = build_targets(other, 4, name, trained_ids=trained).values
    assert torch.equal(first[trained], second[trained])
    assert not torch.equal(first[vectors.ids[20:]], second[vectors.ids[20:]])
    assert not torch.equal(build_targets(vectors, 4, name).values, first)


@pytest.mark.slow
def test_umap_is_as_wide_as_the_layer_and_seeded():
    pytest.importorskip("umap")
    vectors = profiles(40)
    first, again = (build_targets(vectors, 5, "umap", seed=3) for _ in range(2))
    assert first.values.shape[1] == 5
    assert torch.equal(first.values, again.values)
    spread = first.values[vectors.ids].std(dim=0)
    assert (spread > 0).all()  # all five dimensions are used, not the default two


@pytest.fixture
def umap(monkeypatch):
    """Stand in for UMAP, whose first import compiles for half a minute; the slow tests run it."""

    class UMAP:
        made: ClassVar[list[dict[str, Any]]] = []

        def __init__(self, **settings):
            self.made.append(settings)

        def fit(self, vectors):
            self.embedding_ = vectors[:, : self.made[-1]["n_components"]]
            torch.set_num_threads(torch.get_num_threads() + 1)  # as numba does
            return self

        def transform(self, vectors):
            return self.fit(vectors).embedding_

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=UMAP))
    return UMAP


def test_umap_is_asked_for_the_width_of_the_layer_and_seeded(umap):
    vectors = profiles(40)
    table = build_targets(vectors, 5, "umap", seed=3)
    assert table.values.shape[1] == 5
    (settings,) = umap.made
    assert settings == {"n_components": 5, "random_state": settings["random_state"], "n_jobs": 1}
    build_targets(vectors, 5, "umap", seed=3)
    build_targets(vectors, 5, "umap", seed=4)
    seeds = [each["random_state"] for each in umap.made]
    assert seeds[0] == seeds[1] != seeds[2]


def test_umap_leaves_the_threads_of_torch_alone(umap):
    before = torch.get_num_threads()
    build_targets(profiles(40), 2, "umap")
    assert umap.made and torch.get_num_threads() == before


@pytest.mark.slow
def test_umap_over_exact_neighbours_keeps_groups_together(monkeypatch):
    """The search that spares UMAP a compilation; far groups stay far."""
    pytest.importorskip("umap")
    monkeypatch.setattr(build, "UMAP_EXACT_ROWS", (40, 50))
    vectors = profiles(40)
    vectors.vectors[:20, 0] += 5.0
    values = build_targets(vectors, 2, "umap", seed=3).values[vectors.ids].numpy()
    indices, distances = build._neighbours(vectors.vectors)
    assert indices.shape == distances.shape == (40, 15)
    np.testing.assert_allclose(distances[:, 0], 0.0, atol=1e-3)
    between = np.linalg.norm(values[:20].mean(0) - values[20:].mean(0))
    within = np.linalg.norm(values[:20] - values[:20].mean(0), axis=1).mean()
    assert between > 2 * within


def test_umap_of_very_many_rows_suggests_pca(umap, monkeypatch, caplog):
    assert build.UMAP_SLOW_ROWS == 200_000
    monkeypatch.setattr(build, "UMAP_SLOW_ROWS", 39)
    with caplog.at_level(logging.WARNING):
        build_targets(profiles(40), 2, "umap")
    assert "40 profiles takes long: kt_transform: pca" in caplog.text


@pytest.mark.slow
def test_umap_maps_untrained_entities_too():
    pytest.importorskip("umap")
    vectors = profiles(40)
    table = build_targets(vectors, 3, "umap", seed=3, trained_ids=vectors.ids[:30])
    assert int(table.mask.sum()) == 40 and torch.isfinite(table.values).all()


@pytest.mark.parametrize("name", sorted(set(TRANSFORMS) - {"umap"}))
@pytest.mark.parametrize("control", ["none", "shuffled", "random"])
def test_seeded_without_touching_the_global_streams(name, control):
    torch.manual_seed(5)
    np.random.seed(5)
    before = get_random_state()
    first, again = (build_targets(profiles(), 12, name, control, seed=9) for _ in range(2))
    after = get_random_state()
    assert torch.equal(first.values, again.values)
    assert torch.equal(before["torch"], after["torch"])
    assert torch.equal(before["numpy"][1], after["numpy"][1])
    assert before["numpy"][2] == after["numpy"][2] and before["python"] == after["python"]


def test_shuffled_gives_everybody_the_target_of_another():
    vectors = profiles()
    true = build_targets(vectors, 4, "pca", "none", seed=1).values[vectors.ids]
    shuffled = build_targets(vectors, 4, "pca", "shuffled", seed=1)
    rows = shuffled.values[vectors.ids]
    assert not (rows == true).all(1).any()
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, true.tolist()))
    assert shuffled.mask.nonzero().flatten().tolist() == vectors.ids.tolist()


@pytest.mark.parametrize(
    ("name", "shape", "width", "words"),
    [
        ("none", (30, 12), 8, ["12 wide", "8 wide", "kt_projector: linear"]),
        ("pca", (30, 12), 16, ["16 wide", "12 wide", "kt_transform: random", "kt_projector"]),
        ("pca_whiten", (5, 12), 8, ["8 wide", "5 profile", "at most 4"]),
        ("umap", (8, 12), 8, ["8 profiles", "width of 8", "kt_transform: random"]),
    ],
)
def test_a_wrong_width_names_both_widths_and_the_mends(name, shape, width, words):
    with pytest.raises(ConfigError) as caught:
        build_targets(profiles(*shape), width, name)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("name", "shape", "width", "expected"),
    [
        ("pca", (30, 12), 8, 8),
        ("pca", (30, 12), 64, 12),
        ("pca_whiten", (6, 12), 64, 5),
        ("umap", (10, 12), 64, 8),
        ("random", (6, 12), 64, 64),
        ("none", (30, 12), 64, 12),
    ],
)
def test_widest_is_what_a_transform_can_give(name, shape, width, expected):
    assert widest(name, profiles(*shape), width) == expected
    if name != "umap":
        build_targets(profiles(*shape), expected, name)


@pytest.mark.parametrize("name", ["pca_whiten", pytest.param("umap", marks=pytest.mark.slow)])
def test_constant_embeddings_are_one_clear_error_or_finite_targets(name):
    if name == "umap":
        pytest.importorskip("umap")
    vectors = profiles(20)
    same = np.repeat(vectors.vectors[:1], 20, axis=0)
    constant = ProfileVectors("user", vectors.ids, same, vectors.n_entities, "test", "test")
    try:
        table = build_targets(constant, 4, name)
    except ConfigError as error:
        assert "constant" in str(error)
    else:
        assert torch.isfinite(table.values).all()


def test_whitening_has_one_direction_fewer_than_profiles():
    """The last one has no variance, and would be divided by it."""
    vectors = profiles(10, 20)
    with pytest.raises(ConfigError, match="at most 9 wide"):
        build_targets(vectors, 10, "pca_whiten")
    assert build_targets(vectors, 9, "pca_whiten").values.abs().max() < 10
    assert build_targets(vectors, 10, "pca").values.abs().max() < 10


def test_no_profile_of_a_trained_entity():
    """All profiles belong to users without a training interaction: nothing to fit on."""
    vectors = profiles()
    with pytest.raises(ConfigError, match="0 profile"):
        build_targets(vectors, 4, "pca", trained_ids=np.array([2, 4]))
