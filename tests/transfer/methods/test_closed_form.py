"""Models of closed form in runs: profiles, controls, checkpoints, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_llmkt.keys.combinations import CLOSED_FORM
from recbole_llmkt.quick_start import load_data_and_model
from recbole_llmkt.transfer.closed_forms.problem import Problem
from recbole_llmkt.transfer.methods.closed_form import SOLVERS, profile_features
from recbole_llmkt.utils.exceptions import ConfigError
from tests.helpers import ASYMKNN, prepare

MATRICES = {
    "EASE": "item_similarity",
    "SLIMElastic": "item_similarity",
    "ADMMSLIM": "item_similarity",
    "ItemKNN": "w",
    "AsymKNN": "w",
    "NCEPLRec": "item_embeddings",
}
KEYS = {
    "EASE": {"reg_weight": 2.0},
    "SLIMElastic": {"alpha": 0.05},
    "ADMMSLIM": {"lambda1": 0.1, "lambda2": 1.0, "rho": 10.0, "k": 20},
    "NCEPLRec": {"rank": 5},
}
MODELS = [ASYMKNN if model == "AsymKNN" else model for model in SOLVERS]
KINDS = [
    pytest.param(model, kind, marks=ASYMKNN.marks if model == "AsymKNN" else ())
    for model, kinds in CLOSED_FORM.items()
    for kind in kinds
]


def keys_of(model, **keys):
    kind = CLOSED_FORM[model][0]
    weight = {"kt_closed_form": kind, "kt_closed_form_weight": 5.0}
    return {**weight, "epochs": 1, **KEYS.get(model, {}), **keys}


def fitted(dataset, model, **keys):
    run = prepare(dataset.config(model, **keys_of(model, **keys)))
    run.fit()
    return run


def matrix(model):
    value = vars(model)[MATRICES[type(model).__name__]]
    return value.toarray() if sp.issparse(value) else np.asarray(value)


def similarity(dataset, model, **keys):
    return matrix(fitted(dataset, model, **keys).model)


def test_every_model_of_closed_form_has_a_solver():
    assert list(SOLVERS) == list(CLOSED_FORM)


@pytest.mark.parametrize(("model", "kind"), KINDS)
def test_a_run_solves_its_model_with_its_profiles(tiny, model, kind):
    run = fitted(tiny, model, kt_closed_form=kind)
    profiles = run.context.profiles
    features = profile_features(run.config, profiles.of("item"), profiles.trained_ids("item"))
    clicks = run.dataset.inter_matrix(form="csr").astype(np.float32)
    expected = SOLVERS[model](Problem(run.config, clicks, features, kind, 5.0))[MATRICES[model]]
    expected = expected.toarray() if sp.issparse(expected) else np.asarray(expected)
    np.testing.assert_allclose(matrix(run.model), expected, atol=1e-6)
    (facts,) = run.trainer.transfer_summary()["closed_form"]
    assert facts["place"] == "solution" and facts["kind"] == kind
    assert facts["entity"] == "item" and facts["rows"] == len(profiles.of("item").ids)


@pytest.mark.parametrize("model", MODELS)
def test_without_knowledge_it_is_recboles_own(tiny, model):
    stock = similarity(tiny, model, kt_enabled=False)
    assert np.array_equal(similarity(tiny, model, kt_closed_form_weight=0.0), stock)
    assert not np.allclose(similarity(tiny, model), stock)
    zero = similarity(tiny, model, kt_closed_form="rows", kt_control="zero")
    if model == "NCEPLRec":  # its directions may be turned
        zero, stock = zero.T @ zero, stock.T @ stock
    np.testing.assert_allclose(zero, stock, atol=2e-3)


def test_the_default_weight_is_ten_interactions_of_a_mean_item(tiny):
    run = fitted(tiny, "EASE", kt_closed_form_weight=None)
    clicks = run.dataset.inter_matrix(form="csr")
    weight = 10.0 * clicks.nnz / (run.dataset.item_num - 1)  # without the padding item
    (facts,) = run.trainer.transfer_summary()["closed_form"]
    assert facts["weight"] == pytest.approx(weight)
    same = similarity(tiny, "EASE", kt_closed_form_weight=weight)
    np.testing.assert_allclose(matrix(run.model), same, atol=1e-6)


def test_the_length_of_a_profiles_embedding_is_no_matter(tiny):
    run = fitted(tiny, "EASE")
    profiles, trained = run.context.profiles.of("item"), run.context.profiles.trained_ids("item")
    longer = replace(profiles, vectors=profiles.vectors * np.float32(7.0))
    torch.testing.assert_close(
        profile_features(run.config, longer, trained),
        profile_features(run.config, profiles, trained),
    )


def test_user_neighbourhoods_are_those_of_users_profiles(tiny):
    run = fitted(tiny, "ItemKNN", knn_method="user")
    (facts,) = run.trainer.transfer_summary()["closed_form"]
    assert facts["entity"] == "user" and matrix(run.model).shape[0] == run.dataset.user_num
    assert not np.allclose(
        matrix(run.model), similarity(tiny, "ItemKNN", knn_method="user", kt_enabled=False)
    )


@pytest.mark.parametrize("model", ["EASE", "ItemKNN"])
def test_controls_differ_from_the_truth_and_from_each_other(tiny, model):
    made = [similarity(tiny, model, kt_control=name) for name in ("none", "shuffled", "random")]
    for place, arm in enumerate(made):
        assert all(not np.allclose(arm, other) for other in made[place + 1 :])


@pytest.mark.parametrize("model", MODELS)
def test_a_checkpoint_scores_the_same_to_the_bit(tiny, tmp_path, model):
    run = prepare(tiny.config(model, **keys_of(model, checkpoint_dir=str(tmp_path))))
    run.fit(saved=True)
    made = matrix(run.model)
    loaded = load_data_and_model(run.trainer.saved_model_file)[1]
    assert np.array_equal(matrix(loaded), made)
    batch = next(iter(run.test_data))[0]
    torch.manual_seed(1)  # ADMMSLIM adds noise to its scores
    scores = run.model.full_sort_predict(batch)
    torch.manual_seed(1)
    assert torch.equal(loaded.full_sort_predict(batch), scores)
    result = run.trainer.evaluate(run.test_data)
    for name in vars(run.model)["solved_names"]:
        vars(run.model)[name] = vars(run.model)[name] * 0
    assert run.trainer.evaluate(run.test_data) == result  # which loads the checkpoint


@pytest.mark.parametrize(
    ("model", "keys", "message"),
    [
        ("BPR", {}, "kt_closed_form: drawn: BPR is not solved in closed form, as EASE, SLIM"),
        ("EASE", {"kt_hybrid": "linear"}, "kt_hybrid: linear: EASE is solved.*set kt_hybrid: none"),
        ("EASE", {"kt_cold_start": True}, "set kt_cold_start: False"),
        ("EASE", {"kt_closed_form": "none"}, "EASE: it is not trained.*Set kt_closed_form: drawn"),
        ("NCEPLRec", {}, "no matrix of items x items to draw: set kt_closed_form: rows"),
        (
            "Pop",
            {"kt_closed_form": "none"},
            "Pop takes no profiles: it ranks items by their number",
        ),
        (
            "Random",
            {"kt_closed_form": "none"},
            "Random takes no profiles: it ranks items at random",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(tiny, model, keys, message):
    with pytest.raises(ConfigError, match=message):
        tiny.config(model, **{"kt_closed_form": "drawn", **keys})
    tiny.config(model, kt_enabled=False)


@pytest.mark.parametrize("model", MODELS)
def test_models_of_closed_form_take_profiles_by_default(tiny, model):
    assert tiny.config(model)["kt_enabled"] is True
    assert tiny.config(model)["kt_closed_form"] in CLOSED_FORM[model]
    assert tiny.config(model, kt_preset="recommended")["kt_enabled"] is True
    with pytest.raises(ConfigError, match=rf"{model}: it is not trained by gradient descent.*Set"):
        tiny.config(model, kt_closed_form="none")


def test_trees_are_sent_to_features(tiny):
    pytest.importorskip("xgboost")
    with pytest.raises(ConfigError, match=r"XGBoost takes no profiles: .*kt_method: kar"):
        tiny.config("XGBoost")
