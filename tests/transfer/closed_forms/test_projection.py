"""NCEPLRec with profiles."""

from __future__ import annotations

import numpy as np
from recbole.model.general_recommender import NCEPLRec

from recbole_llmkt.transfer.closed_forms.projection import rare_clicks, solve_projection
from tests.transfer.closed_forms.problems import APART, problem, random_data, stock

CLICKS, PROFILES = random_data(seed=5)
CLICKS[0] = 0.0  # as the padding id's row, without which RecBole's dtypes differ
KEYS = {"beta": 1.0, "rank": 3, "reg_weight": 2.0, "seed": 7}


def solve(weight, clicks=CLICKS, features=PROFILES, **keys):
    solution = solve_projection(problem("rows", weight, clicks, features, **{**KEYS, **keys}))
    users, items = solution["user_embeddings"], solution["item_embeddings"]
    return users.numpy().astype(np.float64), items.numpy().astype(np.float64)


def test_by_hand():
    """Two users, of an item each, and a third item that is told like the first.

    D is log 2 where there is a click. Profiles of weight 1 make D'D block diagonal, with
    [[log^2 2 + 1, 1], [1, 1]] for the items 0 and 2. All three directions are kept, so Q W is the
    ridge of X + T' on V*.
    """
    clicks, features = np.array([[1, 0, 0], [0, 1, 0]]), np.array([[1.0], [0.0], [1.0]])
    weighed = rare_clicks(problem("rows", 1.0, clicks).interactions, 1.0).toarray()
    np.testing.assert_allclose(weighed, np.log(2) * clicks, atol=1e-6)
    users, items = solve(1.0, clicks, features, reg_weight=1e-6)
    # Without a penalty, three directions of three items rebuild the clicks.
    np.testing.assert_allclose(users @ items, clicks, atol=1e-3)
    users, items = solve(1.0, clicks, features, rank=1, reg_weight=1.0)
    # The first direction is that of [[log^2 2 + 1, 1], [1, 1]]: its eigenvector v and value s^2.
    values, vectors = np.linalg.eigh([[np.log(2) ** 2 + 1, 1.0], [1.0, 1.0]])
    first, last = vectors[:, 1] * values[1] ** 0.25
    # User 0 is `first`; the profile is `first + last`; W is a ridge on both.
    left = first**2 + (first + last) ** 2 + 1.0
    expected = np.array([first + (first + last), 0.0, first + last]) / left * first
    np.testing.assert_allclose(users[0] @ items, expected, atol=1e-5)
    np.testing.assert_allclose(users[1] @ items, 0.0, atol=1e-6)


def test_next_to_no_weight_is_recboles():
    users, items = solve(1e-12)
    made = stock(NCEPLRec, CLICKS, **KEYS)
    expected = (made.user_embeddings @ made.item_embeddings).numpy()
    np.testing.assert_allclose(users @ items, expected, atol=1e-4)
    assert np.abs(users @ items - np.matmul(*solve(1.0))).max() > 0.05


def test_directions_and_items_are_minima():
    weight = 1.5
    rows = np.sqrt(weight) * PROFILES.T
    weighed = rare_clicks(problem("rows", weight, CLICKS).interactions, 1.0).toarray()
    _, values, directions = np.linalg.svd(np.concatenate([weighed, rows]), full_matrices=False)
    star = directions[:3].T * np.sqrt(values[:3])
    users, items = solve(weight)
    np.testing.assert_allclose(users @ users.T, (CLICKS @ star) @ (CLICKS @ star).T, rtol=1e-3)
    # W in these directions, which may point the other way than those of the solution.
    design, target = np.concatenate([CLICKS, rows]) @ star, np.concatenate([CLICKS, rows])
    own = np.linalg.solve(design.T @ design + 2.0 * np.eye(3), design.T @ target)
    np.testing.assert_allclose(users @ items, CLICKS @ star @ own, atol=1e-3)


def test_with_all_the_weight_the_directions_are_the_profiles():
    weight = 1e8
    users, items = solve(weight, rank=5)
    _, _, span = np.linalg.svd(PROFILES.T, full_matrices=False)
    inside = np.concatenate([CLICKS, PROFILES.T]) @ span.T @ span
    np.testing.assert_allclose(users @ items, inside[: len(CLICKS)], atol=0.01)


def test_a_rank_above_the_number_of_items_is_that_number():
    users, items = solve(1.0, APART, np.eye(3), rank=450)
    assert users.shape == (6, 3) and items.shape == (3, 3)
