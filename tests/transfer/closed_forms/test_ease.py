"""EASE with profiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recbole.model.general_recommender import EASE

from recbole_llmkt.transfer.closed_forms.ease import (
    profile_similarity,
    solve_drawn,
    solve_ease,
    solve_with_rows,
)
from recbole_llmkt.utils.exceptions import ConfigError
from tests.transfer.closed_forms.problems import (
    APART,
    ease,
    problem,
    random_data,
    stacked,
    stock,
)

RIDGE, WEIGHT = 3.0, 7.0
CLICKS, PROFILES = random_data()
PROFILES[2] = 0.0  # no profile
GRAM = CLICKS.T @ CLICKS


def as_tensor(array):
    return torch.tensor(array, dtype=torch.float32)


def test_by_hand():
    """Two linked items: the other's coefficient is product / (own square + ridge)."""
    rows = solve_ease(problem("rows", 1.0, APART, reg_weight=1.0))["item_similarity"]
    expected = [[0, 0, 0.96 / (3 + 1 + 1)], [0, 0, 0], [0.96 / (1 + 1 + 1), 0, 0]]
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    drawn = solve_ease(problem("drawn", 1.0, APART, reg_weight=1.0))["item_similarity"]
    similarity = 0.96 / (1 + 10)  # of the profiles alone
    expected = [[0, 0, similarity / (3 + 1 + 1)], [0, 0, 0], [similarity / (1 + 1 + 1), 0, 0]]
    np.testing.assert_allclose(drawn, expected, atol=1e-6)


def test_profiles_alone_are_the_ease_of_the_profiles():
    expected = ease(PROFILES @ PROFILES.T, 10.0)
    np.testing.assert_allclose(profile_similarity(as_tensor(PROFILES)), expected, atol=1e-6)
    assert not expected[2].any() and not expected[:, 2].any() and expected[0, 1] != 0


def test_rows_are_further_rows_of_the_interactions():
    expected = stock(EASE, stacked(CLICKS, PROFILES, WEIGHT), reg_weight=RIDGE).item_similarity
    given = problem("rows", WEIGHT, CLICKS, PROFILES, reg_weight=RIDGE)
    np.testing.assert_allclose(solve_ease(given)["item_similarity"], expected, atol=1e-5)


def test_drawn_is_the_formula_and_the_minimum():
    solved = solve_drawn(as_tensor(GRAM), as_tensor(PROFILES), RIDGE, WEIGHT).double().numpy()
    target, unit = ease(PROFILES @ PROFILES.T, 10.0), np.eye(len(GRAM))
    inverse = np.linalg.inv(GRAM + (RIDGE + WEIGHT) * unit)
    product = inverse @ (GRAM + WEIGHT * target)
    expected = product - inverse @ np.diag(np.diag(product) / np.diag(inverse))
    np.testing.assert_allclose(solved, expected, atol=1e-6)
    # The gradient of |X - XB|^2 + w |B - S|^2 + l |B|^2 vanishes off the diagonal, which is 0.
    gradient = GRAM @ (solved - unit) + WEIGHT * (solved - target) + RIDGE * solved
    np.testing.assert_allclose(gradient - np.diag(np.diag(gradient)), 0.0, atol=1e-4)
    assert not np.diag(solved).any()


def test_limits_of_the_weight():
    for kind in ("drawn", "rows"):
        none = solve_ease(problem(kind, 0.0, CLICKS, PROFILES, reg_weight=RIDGE))
        expected = stock(EASE, CLICKS, reg_weight=RIDGE).item_similarity
        np.testing.assert_allclose(none["item_similarity"], expected, atol=1e-5)
    all_drawn = solve_drawn(as_tensor(GRAM), as_tensor(PROFILES), RIDGE, 1e7)
    np.testing.assert_allclose(all_drawn, ease(PROFILES @ PROFILES.T, 10.0), atol=1e-3)
    # Eight items of profiles five wide: what is left of the profiles is next to nothing.
    all_rows = solve_with_rows(as_tensor(GRAM), as_tensor(PROFILES), RIDGE, 1e4).numpy()
    left = PROFILES.T - PROFILES.T @ all_rows
    assert np.abs(left).max() < 0.01 * np.abs(PROFILES).max()


def test_what_cannot_be_inverted_is_refused():
    with pytest.raises(ConfigError, match="larger reg_weight"):
        solve_with_rows(torch.zeros(3, 3), torch.zeros(3, 1), 0.0, 1.0)
