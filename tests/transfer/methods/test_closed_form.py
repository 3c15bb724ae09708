"""EASE, solved with the items' profiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_llmkt.quick_start import load_data_and_model
from recbole_llmkt.transfer.methods.closed_form import (
    item_features,
    profile_similarity,
    solve_drawn,
    solve_with_rows,
)
from recbole_llmkt.utils.exceptions import ConfigError
from tests.helpers import prepare

KEYS = {"kt_closed_form": "drawn", "kt_closed_form_weight": 5.0, "reg_weight": 2.0}
CLICKS = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 0, 1], [0, 0, 1, 1]])
FEATURES = np.array([[0.5, 0.1], [-0.2, 0.7], [0.0, 0.0], [-0.3, -0.8]])  # item 2: no profile
GRAM = (CLICKS.T @ CLICKS).astype(float)
RIDGE, WEIGHT = 3.0, 7.0


def ease(gram, ridge):
    inverse = np.linalg.inv(gram + ridge * np.eye(len(gram)))
    return np.eye(len(gram)) - inverse / np.diag(inverse)


def as_tensor(array):
    return torch.tensor(array, dtype=torch.float32)


def test_profiles_alone_are_the_ease_of_the_profiles():
    expected = ease(FEATURES @ FEATURES.T, 10.0)
    np.testing.assert_allclose(profile_similarity(as_tensor(FEATURES)), expected, atol=1e-6)
    assert not expected[2].any() and not expected[:, 2].any() and expected[0, 1] != 0


def test_rows_are_further_rows_of_the_interactions():
    """EASE of X above sqrt(w) T', as RecBole would solve it."""
    stacked = np.concatenate([CLICKS, np.sqrt(WEIGHT) * FEATURES.T])
    expected = ease(stacked.T @ stacked, RIDGE)
    solved = solve_with_rows(as_tensor(GRAM), as_tensor(FEATURES), RIDGE, WEIGHT)
    np.testing.assert_allclose(solved, expected, atol=1e-6)


def test_drawn_is_the_formula_and_the_minimum():
    solved = solve_drawn(as_tensor(GRAM), as_tensor(FEATURES), RIDGE, WEIGHT).double().numpy()
    target = ease(FEATURES @ FEATURES.T, 10.0)
    inverse = np.linalg.inv(GRAM + (RIDGE + WEIGHT) * np.eye(4))
    product = inverse @ (GRAM + WEIGHT * target)
    expected = product - inverse @ np.diag(np.diag(product) / np.diag(inverse))
    np.testing.assert_allclose(solved, expected, atol=1e-6)
    # The gradient of |X - XB|^2 + w |B - S|^2 + l |B|^2 vanishes off the diagonal, which is 0.
    gradient = GRAM @ (solved - np.eye(4)) + WEIGHT * (solved - target) + RIDGE * solved
    np.testing.assert_allclose(gradient - np.diag(np.diag(gradient)), 0.0, atol=1e-5)
    assert not np.diag(solved).any()


def test_limits_of_the_weight():
    stock = ease(GRAM, RIDGE)
    for solve in (solve_drawn, solve_with_rows):
        none = solve(as_tensor(GRAM), as_tensor(FEATURES), RIDGE, 0.0)
        np.testing.assert_allclose(none, stock, atol=1e-6)
    all_of_it = solve_drawn(as_tensor(GRAM), as_tensor(FEATURES), RIDGE, 1e7)
    np.testing.assert_allclose(all_of_it, ease(FEATURES @ FEATURES.T, 10.0), atol=1e-3)


def test_what_cannot_be_inverted_is_refused():
    with pytest.raises(ConfigError, match="larger reg_weight"):
        solve_with_rows(torch.zeros(3, 3), torch.zeros(3, 1), 0.0, 1.0)


def similarity(dataset, **keys):
    run = prepare(dataset.config("EASE", **{**KEYS, **keys}))
    run.fit()
    return np.asarray(run.model.item_similarity)


@pytest.mark.parametrize("kind", ["drawn", "rows"])
def test_a_run_solves_its_model_with_its_profiles(tiny, kind):
    run = prepare(tiny.config("EASE", **{**KEYS, "kt_closed_form": kind}))
    run.fit()
    profiles = run.trainer.run_profiles or run.context.profiles
    features = item_features(run.config, profiles.of("item"), profiles.trained_ids("item"))
    clicks = run.dataset.inter_matrix(form="csr").toarray()
    solve = {"drawn": solve_drawn, "rows": solve_with_rows}[kind]
    expected = solve(as_tensor(clicks.T @ clicks), features, 2.0, 5.0)
    np.testing.assert_allclose(run.model.item_similarity, expected, atol=1e-6)
    assert np.abs(run.model.item_similarity).max() > 0.01
    (facts,) = run.trainer.transfer_summary()["closed_form"]
    assert facts["place"] == "item-item matrix" and facts["rows"] == len(profiles.of("item").ids)


def test_without_knowledge_it_is_recboles_own(tiny):
    stock = similarity(tiny, kt_enabled=False)
    assert np.array_equal(similarity(tiny, kt_closed_form_weight=0.0), stock)
    assert not np.allclose(similarity(tiny), stock)
    zero = similarity(tiny, kt_closed_form="rows", kt_control="zero")
    np.testing.assert_allclose(zero, stock, atol=1e-5)


def test_controls_differ_from_the_truth_and_from_each_other(tiny):
    matrices = [similarity(tiny, kt_control=name) for name in ("none", "shuffled", "random")]
    for place, matrix in enumerate(matrices):
        assert all(not np.allclose(matrix, other) for other in matrices[place + 1 :])


def test_a_checkpoint_scores_the_same_to_the_bit(tiny, tmp_path):
    run = prepare(tiny.config("EASE", **KEYS, checkpoint_dir=str(tmp_path)))
    run.fit(saved=True)
    result = run.trainer.evaluate(run.test_data)
    made = run.model.item_similarity
    run.model.item_similarity = np.zeros_like(made)
    assert run.trainer.evaluate(run.test_data) == result  # which loads the checkpoint
    loaded = load_data_and_model(run.trainer.saved_model_file)[1]
    assert np.array_equal(loaded.item_similarity, made)
    batch = next(iter(run.test_data))[0]
    assert torch.equal(loaded.full_sort_predict(batch), run.model.full_sort_predict(batch))


@pytest.mark.parametrize(
    ("model", "keys", "message"),
    [
        ("BPR", {}, "kt_closed_form: drawn: BPR is not solved in closed form"),
        ("EASE", {"kt_hybrid": "linear"}, "kt_hybrid: linear: EASE is solved.*set kt_hybrid: none"),
        ("EASE", {"kt_cold_start": True}, "set kt_cold_start: False"),
        ("EASE", {"kt_closed_form": "none"}, "EASE is not trained.*Set kt_closed_form: drawn"),
        ("ItemKNN", {}, "ItemKNN is not solved|ItemKNN is not trained"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tiny, model, keys, message):
    with pytest.raises(ConfigError, match=message):
        tiny.config(model, **{"kt_closed_form": "drawn", **keys})
    tiny.config(model, kt_enabled=False)
