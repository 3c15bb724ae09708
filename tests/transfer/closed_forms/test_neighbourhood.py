"""ItemKNN and AsymKNN with profiles."""

from __future__ import annotations

import numpy as np
import pytest
import recbole.model.general_recommender as recbole_models
from recbole.model.general_recommender import ItemKNN

from recbole_llmkt.transfer.closed_forms import problem as module
from recbole_llmkt.transfer.closed_forms.neighbourhood import solve_asymmetric, solve_cosine
from tests.helpers import IS_NEWEST_RECBOLE
from tests.transfer.closed_forms.problems import (
    FEATURES,
    TOGETHER,
    problem,
    random_data,
    stacked,
    stock,
)

CLICKS, PROFILES = random_data(seed=3)
KNN = {"k": 100, "shrink": 0.0, "knn_method": "item", "alpha": 1.0, "beta": 0.5, "q": 1}
asymmetric_too = pytest.mark.parametrize(
    ("solve", "model"),
    [
        (solve_cosine, "ItemKNN"),
        pytest.param(
            solve_asymmetric,
            "AsymKNN",
            marks=pytest.mark.skipif(not IS_NEWEST_RECBOLE, reason="new in RecBole 1.2.1"),
        ),
    ],
)


def weights(solve, kind, weight, clicks=CLICKS, features=PROFILES, **keys):
    return solve(problem(kind, weight, clicks, features, **{**KNN, **keys}))["w"].toarray()


def test_cosines_by_hand():
    rows = weights(solve_cosine, "rows", 1.0, TOGETHER, FEATURES)
    shared, told = 2 / np.sqrt(4 * 2), 0.96 / np.sqrt(4 * 2)
    np.testing.assert_allclose(rows, [[0, shared, told], [shared, 0, 0], [told, 0, 0]], atol=1e-5)
    drawn = weights(solve_cosine, "drawn", 1.0, TOGETHER, FEATURES)
    shared, told = 2 / np.sqrt(3 * 2), (0 + 0.96) / 2  # item 1 has no profile
    np.testing.assert_allclose(drawn, [[0, shared, told], [shared, 0, 0], [told, 0, 0]], atol=1e-5)
    shrunk = weights(solve_cosine, "drawn", 1.0, TOGETHER, FEATURES, shrink=1.0)
    np.testing.assert_allclose(shrunk[:, 0], [0, 2 / (np.sqrt(6) + 1), 0.48], atol=1e-5)


def test_asymmetric_cosines_by_hand():
    rows = weights(solve_asymmetric, "rows", 1.0, TOGETHER, FEATURES)
    expected = [[0, 2 / 2, 0.96 / 2], [2 / 4, 0, 0], [0.96 / 4, 0, 0]]
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    drawn = weights(solve_asymmetric, "drawn", 1.0, TOGETHER, FEATURES)
    np.testing.assert_allclose(drawn, [[0, 2 / 2, 0.48], [2 / 3, 0, 0], [0.48, 0, 0]], atol=1e-5)


@asymmetric_too
@pytest.mark.parametrize("method", ["item", "user"])
@pytest.mark.parametrize("kind", ["drawn", "rows"])
def test_without_weight_it_is_recboles(solve, model, method, kind):
    """With k below the number of neighbours equal similarities could be told apart otherwise."""
    keys = {**KNN, "knn_method": method, "shrink": 2.0}
    made = stock(getattr(recbole_models, model), CLICKS, **keys)
    features = np.ones((len(CLICKS) if method == "user" else len(CLICKS.T), 2))
    mine = weights(solve, kind, 0.0, CLICKS, features, **keys)
    np.testing.assert_allclose(mine, made.w.toarray(), atol=1e-5)


@asymmetric_too
def test_rows_are_further_rows_of_the_interactions(solve, model):
    made = stock(getattr(recbole_models, model), stacked(CLICKS, PROFILES, 1.0), **KNN)
    np.testing.assert_allclose(weights(solve, "rows", 1.0), made.w.toarray(), atol=1e-5)


@asymmetric_too
@pytest.mark.parametrize("kind", ["drawn", "rows"])
def test_with_all_the_weight_it_is_the_profiles_own(solve, model, kind):
    assert PROFILES.any(axis=1).all()
    made = stock(getattr(recbole_models, model), PROFILES.T, **KNN)
    np.testing.assert_allclose(weights(solve, kind, 1e6), made.w.toarray(), atol=1e-3)


@asymmetric_too
@pytest.mark.parametrize("kind", ["drawn", "rows"])
def test_blocks_make_no_difference(solve, model, kind, monkeypatch):
    whole = weights(solve, kind, 0.7)
    monkeypatch.setattr(module, "_PIECE", 3 * len(PROFILES))  # three columns, and two at last
    np.testing.assert_allclose(weights(solve, kind, 0.7), whole, atol=1e-6)


@asymmetric_too
def test_clicks_may_count_more_than_once(solve, model):
    clicks = CLICKS * np.arange(1, 1 + len(CLICKS.T))
    made = stock(getattr(recbole_models, model), clicks, **KNN)
    mine = weights(solve, "drawn", 0.0, clicks)
    np.testing.assert_allclose(mine, made.w.toarray(), atol=1e-5)


def test_the_k_nearest_are_kept_and_the_unlike_are_none():
    every = weights(solve_cosine, "drawn", 1.0)
    two = weights(solve_cosine, "drawn", 1.0, k=2)
    assert ((two > 0).sum(axis=0) == 2).all()
    for column, kept in zip(every.T, two.T):
        np.testing.assert_array_equal(np.sort(column)[-2:], np.sort(kept)[-2:])
    features = np.array([[1.0], [0.0], [-1.0]])
    assert weights(solve_cosine, "drawn", 9.0, TOGETHER, features)[0, 2] == 0.0


def test_users_are_compared_by_users_profiles():
    features = np.zeros((4, 2))
    features[0] = features[3] = [1.0, 0.0]
    made = weights(solve_cosine, "drawn", 1.0, TOGETHER, features, knn_method="user")
    plain = stock(ItemKNN, TOGETHER, **{**KNN, "knn_method": "user"}).w.toarray()
    plain[0, 3] = plain[3, 0] = 0.5  # no click in common
    np.testing.assert_allclose(made, plain, atol=1e-5)
