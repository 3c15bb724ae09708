"""Controls break the knowledge and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_llmkt.transfer.targets.controls import apply_control
from recbole_llmkt.utils.exceptions import ConfigError


def targets(n: int = 50, dim: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((n, dim)) @ rng.standard_normal((dim, dim)) + 5.0
    return mixed.astype(np.float32)


def control(name: str, table: np.ndarray, seed: int = 1) -> np.ndarray:
    return apply_control(name, table, np.random.default_rng(seed))


def test_none_changes_nothing():
    table = targets()
    assert control("none", table) is table


@pytest.mark.parametrize("n", [2, 3, 5, 50])
@pytest.mark.parametrize("seed", range(5))
def test_shuffled_is_a_derangement_of_the_same_rows(n, seed):
    table = targets(n)
    shuffled = control("shuffled", table, seed)
    assert sorted(map(tuple, shuffled)) == sorted(map(tuple, table))
    assert not (shuffled == table).all(axis=1).any()
    assert shuffled.dtype == np.float32


def test_random_has_the_mean_and_the_covariance_of_the_true_ones():
    table = targets(40_000)
    drawn = control("random", table)
    np.testing.assert_allclose(drawn.mean(axis=0), table.mean(axis=0), atol=0.05)
    np.testing.assert_allclose(
        np.cov(drawn, rowvar=False), np.cov(table, rowvar=False), atol=0.15, rtol=0.05
    )
    assert drawn.dtype == np.float32
    correlation = np.corrcoef(drawn[:, 0], table[:, 0])[0, 1]
    assert abs(correlation) < 0.02  # nothing of the true rows is left


def test_random_of_a_singular_covariance_is_finite():
    table = np.repeat(targets(4, 2), 3, axis=1)  # six columns of rank two
    drawn = control("random", table)
    assert np.isfinite(drawn).all()
    np.testing.assert_allclose(drawn[:, 0], drawn[:, 1], atol=1e-4)


@pytest.mark.parametrize("name", ["shuffled", "random"])
def test_seeded_and_blind_to_the_global_streams(name):
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    first, second, other = (control(name, targets(), seed) for seed in (1, 1, 2))
    assert np.array_equal(first, second) and not np.array_equal(first, other)
    assert np.array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("name", ["shuffled", "random"])
def test_the_true_targets_stay_as_they_are(name):
    table = targets()
    copy = table.copy()
    control(name, table)
    assert np.array_equal(table, copy)


@pytest.mark.parametrize("name", ["shuffled", "random"])
def test_one_profile_cannot_be_broken(name):
    with pytest.raises(ConfigError, match="two profiles or more"):
        control(name, targets(1))
