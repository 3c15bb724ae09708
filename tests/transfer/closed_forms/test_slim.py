"""SLIMElastic and ADMMSLIM with profiles."""

from __future__ import annotations

import numpy as np
import pytest
from recbole.model.general_recommender import ADMMSLIM, SLIMElastic

from recbole_llmkt.transfer.closed_forms.slim import solve_admm, solve_elastic_net
from tests.transfer.closed_forms.problems import (
    APART,
    FEATURES,
    ease,
    problem,
    random_data,
    stacked,
    stock,
)

CLICKS, PROFILES = random_data()
SLIM = {"alpha": 0.1, "l1_ratio": 0.5, "positive_only": True, "hide_item": True}
ADMM = {"lambda1": 0.3, "lambda2": 0.3, "alpha": 0.0, "rho": 5.0, "k": 400}
ADMM |= {"positive_only": True, "center_columns": False}
SIGNED = {"positive_only": False}


def elastic_net(kind, weight, clicks=CLICKS, features=PROFILES, **keys):
    given = problem(kind, weight, clicks, features, **{**SLIM, **keys})
    return solve_elastic_net(given)["item_similarity"].toarray()


def admm(kind, weight, clicks=CLICKS, features=PROFILES, **keys):
    return solve_admm(problem(kind, weight, clicks, features, **{**ADMM, **keys}))[
        "item_similarity"
    ]


# Six users: n alpha rho = n alpha (1 - rho) = .3 for SLIM, as are lambda1 and lambda2 for ADMM.
@pytest.mark.parametrize("solve", [elastic_net, admm])
@pytest.mark.parametrize(
    ("kind", "weight", "product"), [("rows", 1.0, 0.96), ("drawn", 10.0, 10.0 * 0.96 / 11.0)]
)
def test_by_hand(solve, kind, weight, product):
    """Two linked items: (product - L1) / (own square + L2)."""
    solved = solve(kind, weight, APART, FEATURES)
    first, last = (product - 0.3) / (3 + weight + 0.3), (product - 0.3) / (1 + weight + 0.3)
    np.testing.assert_allclose(solved, [[0, 0, first], [0, 0, 0], [last, 0, 0]], atol=1e-4)


# Coordinate descent stops when it is near enough, in any order of its steps: so .01.
@pytest.mark.parametrize("keys", [{}, SIGNED, {"hide_item": False}])
def test_rows_are_further_rows_of_the_interactions_of_slim(keys):
    rows = stacked(CLICKS, PROFILES, 2.0)
    alpha = SLIM["alpha"] * len(CLICKS) / len(rows)  # it is multiplied by the number of rows
    expected = stock(SLIMElastic, rows, **{**SLIM, **keys, "alpha": alpha}).item_similarity
    np.testing.assert_allclose(elastic_net("rows", 2.0, **keys), expected.toarray(), atol=1e-2)


@pytest.mark.parametrize("keys", [{}, SIGNED])
def test_rows_are_further_rows_of_the_interactions_of_admm(keys):
    expected = stock(ADMMSLIM, stacked(CLICKS, PROFILES, 2.0), **{**ADMM, **keys}).item_similarity
    np.testing.assert_allclose(admm("rows", 2.0, **keys), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["drawn", "rows"])
def test_without_weight_it_is_recboles(kind):
    expected = stock(SLIMElastic, CLICKS, **SLIM).item_similarity.toarray()
    np.testing.assert_allclose(elastic_net(kind, 0.0), expected, atol=1e-2)
    for keys in ({"center_columns": True, "alpha": 0.5}, {"k": 3, "alpha": 0.5}):
        expected = stock(ADMMSLIM, CLICKS, **{**ADMM, **keys}).item_similarity
        np.testing.assert_allclose(admm(kind, 0.0, **keys), expected, atol=1e-4)


@pytest.mark.parametrize("solve", [elastic_net, admm])
def test_with_all_the_weight_drawn_is_the_solution_of_the_profiles(solve):
    target = ease(PROFILES @ PROFILES.T, 10.0)
    np.testing.assert_allclose(solve("drawn", 1e5), np.maximum(target, 0.0), atol=2e-3)
    np.testing.assert_allclose(solve("drawn", 1e5, **SIGNED), target, atol=2e-3)


@pytest.mark.parametrize("solve", [elastic_net, admm])
def test_with_all_the_weight_rows_rebuild_the_profiles(solve):
    keys = {**SIGNED, "rho": 5e3}
    left = PROFILES.T - PROFILES.T @ solve("rows", 1e4, **keys)
    assert np.abs(left).max() < 0.05
    assert np.abs(PROFILES.T - PROFILES.T @ solve("rows", 1e-3, **SIGNED)).max() > 0.5


def test_drawn_is_a_minimum():
    """No small step lowers the sum, which is convex."""
    target, gram, weight = ease(PROFILES @ PROFILES.T, 10.0), CLICKS.T @ CLICKS, 4.0

    def total(matrix):
        product = gram @ matrix
        fit = 0.5 * np.trace(matrix.T @ product) - np.trace(product)
        drawn = 0.5 * weight * np.square(matrix - target).sum()
        norms = 0.15 * np.square(matrix).sum() + 0.3 * np.abs(matrix).sum()
        return fit + drawn + norms

    keys = {"alpha": 0.6 / len(CLICKS), **SIGNED}  # n alpha rho = n alpha (1 - rho) = .3
    for solved in (elastic_net("drawn", weight, **keys), admm("drawn", weight, **SIGNED)):
        solved = solved.astype(np.float64)
        rng = np.random.default_rng(1)
        for _ in range(200):
            step = rng.standard_normal(solved.shape) * (solved != 0) * 0.02
            np.fill_diagonal(step, 0.0)
            assert total(solved + step) > total(solved) - 1e-5
