"""Models of closed form in runs: profiles, controls, checkpoints, refusals."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_llmkt.keys.combinations import CLOSED_FORM
from recbole_llmkt.profiles.loading import ProfileVectors
from recbole_llmkt.quick_start import load_data_and_model
from recbole_llmkt.transfer.closed_forms.problem import Problem
from recbole_llmkt.transfer.methods import closed_form
from recbole_llmkt.transfer.methods.closed_form import SOLVERS, ClosedForm, profile_features
from recbole_llmkt.utils.exceptions import ConfigError, ProfileError
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


def vectors(**changes):
    """Return profiles of the items 1, 2 and 4 of six, each of another length."""
    values = {
        "entity": "item",
        "ids": np.array([1, 2, 4]),
        "vectors": np.array([[3, 4], [0, 2], [1, 0]], dtype=np.float32),
        "n_entities": 6,
        "encoder": "wordllama",
        "generator": "template",
    }
    return ProfileVectors(**{**values, **changes})


def controlled(name="none", kt_seed=1, trained=(1, 2), **changes):
    config = {"kt_control": name, "kt_seed": kt_seed, "seed": 2020}
    return profile_features(config, vectors(**changes), np.array(trained))


def test_features_are_directions_around_their_trained_mean():
    features = controlled()  # the directions are (.6, .8), (0, 1) and (1, 0); two are trained
    expected = torch.tensor([[0, 0], [0.3, -0.1], [-0.3, 0.1], [0, 0], [0.7, -0.9], [0, 0]])
    torch.testing.assert_close(features, expected)
    assert not controlled("zero").any() and controlled("zero").shape == (6, 2)
    nothing = vectors().vectors * np.float32([[1], [0], [1]])  # a text without a direction
    assert controlled(vectors=nothing)[2].tolist() == pytest.approx([-0.3, -0.4])


def test_a_controls_features_are_drawn_by_the_transfers_seed():
    true, drawn = controlled(), [controlled("random", seed) for seed in (1, 1, 2, None)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[3])
    shuffled = controlled("shuffled")
    assert sorted(shuffled.tolist()) == sorted(true.tolist()) and not torch.equal(shuffled, true)


def test_features_need_a_trained_profile():
    said = r"^None of the 3 items with a profile occurs in the training split: kt_closed_form has"
    with pytest.raises(ProfileError, match=said):
        controlled(trained=(3, 5))


@pytest.mark.parametrize(
    ("kind", "weight", "wanted"),
    [("none", None, False), ("drawn", 0, False), ("drawn", None, True), ("rows", 0.5, True)],
)
def test_the_method_is_wanted_where_profiles_weigh(kind, weight, wanted):
    config = {"kt_closed_form": kind, "kt_closed_form_weight": weight}
    assert ClosedForm.wanted(config) is wanted


def test_what_a_model_compares_needs_the_profiles():
    needed = [ClosedForm.entities({"knn_method": method}) for method in ("user", "item", None)]
    assert needed == [{"user"}, {"item"}, {"item"}]


def test_the_memory_is_looked_at_before_a_model_is_made(monkeypatch):
    monkeypatch.setattr(closed_form, "unsolved_model", lambda config, dataset: dataset)
    config, many = {"model": "EASE", "device": "cpu"}, SimpleNamespace(item_num=10**8)
    with pytest.raises(ConfigError, match="EASE needs"):
        ClosedForm.build_model(config, many, None, None)
    assert ClosedForm.build_model(config, many, None, {"a checkpoint's": torch.ones(1)}) is many
    few = SimpleNamespace(item_num=9)
    assert ClosedForm.build_model(config, few, None, None) is few


class Unsolved(torch.nn.Module):
    """A model whose solution is missing."""


@pytest.mark.parametrize(("weight", "used"), [(5, 5.0), (None, 60.0 * 1.2**0.5)])
def test_a_problem_has_what_the_run_has(monkeypatch, caplog, weight, used):
    model, problems = Unsolved(), []

    def solve(problem):
        problems.append(problem)
        return {"item_similarity": "ours"}

    monkeypatch.setitem(SOLVERS, "EASE", solve)
    clicks = sp.csr_matrix(np.eye(3, 6, 1) + np.eye(3, 6, 2))  # six clicks, five items
    config = {
        **{"model": "EASE", "device": "cpu", "knn_method": None, "kt_control": "none"},
        **{"kt_closed_form": "rows", "kt_closed_form_weight": weight, "kt_seed": None, "seed": 1},
    }
    profiles = vectors(ids=np.array([1, 2, 5]))
    run_profiles = SimpleNamespace(
        of={"item": profiles}.__getitem__,
        trained_ids={"item": np.array([1, 2, 3, 4])}.__getitem__,
    )
    dataset = SimpleNamespace(inter_matrix=lambda form: {"csr": clicks}[form])
    loader = SimpleNamespace(_dataset=dataset)
    method = ClosedForm(config)
    assert method.config is config
    with caplog.at_level("INFO"):
        method.prepare(SimpleNamespace(model=model, profiles=run_profiles, train_data=loader))
    (problem,) = problems
    assert (problem.config, problem.kind) == (config, "rows")
    assert problem.weight == pytest.approx(used)
    assert problem.interactions.dtype == np.float32 and (problem.interactions != clicks).nnz == 0
    expected = profile_features(config, profiles, np.array([1, 2, 3, 4]))
    assert torch.equal(problem.features, expected)
    assert model.item_similarity == "ours"
    said = f"Unsolved is solved with weight {used:.4g} for the profiles of 3 of 5 items."
    assert [record.getMessage() for record in caplog.records] == [said]
    assert method.profiles() == [profiles]
    assert method.knowledge() == {"kt_closed_form": "rows", "kt_closed_form_weight": weight}
    facts = {"place": "solution", "rows": 3, "kind": "rows", "weight": used}
    assert method.summary() == {"closed_form": [{**profiles.summary(), **facts}]}


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


def test_the_default_weight_grows_with_the_root_of_a_mean_items_interactions(tiny):
    run = fitted(tiny, "EASE", kt_closed_form_weight=None)
    clicks = run.dataset.inter_matrix(form="csr")
    weight = 60.0 * (clicks.nnz / (run.dataset.item_num - 1)) ** 0.5  # without the padding item
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
