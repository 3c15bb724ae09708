"""Search spaces: files over files, dimensions, shared points."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from recbole_llmkt.config import Config
from recbole_llmkt.experiment.tuning.space import (
    arm_space,
    plain_space,
    quasi_random,
    search_spaces,
)
from recbole_llmkt.experiment.tuning.tune import Tuning, _studies, tune
from recbole_llmkt.utils.exceptions import ConfigError
from tests.experiment.fake_runs import PLAN, forbidden_train


def config(model="BPR", **keys):
    return Config(model, "ml-100k", config_dict={"kt_enabled": False, **keys}, command_line=[])


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("BPR", ["learning_rate", "weight_decay"]),
        ("NeuMF", ["learning_rate", "weight_decay", "dropout_prob"]),
        ("SimpleX", ["learning_rate", "reg_weight", "dropout_prob"]),
        ("LightGCN", ["learning_rate", "reg_weight"]),
        ("SASRec", ["learning_rate", "weight_decay", "hidden_dropout_prob", "attn_dropout_prob"]),
        ("DCN", ["learning_rate", "reg_weight", "dropout_prob", "weight_decay"]),
        ("EASE", ["reg_weight"]),
        ("ItemKNN", ["k", "shrink"]),
        ("SLIMElastic", ["alpha", "l1_ratio"]),
        ("ADMMSLIM", ["lambda1", "lambda2"]),
        ("NCEPLRec", ["reg_weight", "rank"]),
    ],
)
def test_a_models_own_keys_are_found(model, keys):
    extra = {"train_neg_sample_args": None} if model == "SASRec" else {}
    assert list(search_spaces(config(model, **extra))["shared"]) == keys


@pytest.mark.parametrize("model", ["EASE", "ItemKNN", "SLIMElastic", "ADMMSLIM", "NCEPLRec"])
def test_a_model_of_closed_form_tunes_what_its_solution_reads(model):
    made = config(model, kt_enabled=True)
    space = arm_space(search_spaces(made), made, {})
    assert [key for key in space if key.startswith("kt_")] == [
        "kt_closed_form",
        "kt_closed_form_weight",
    ]
    for key in space:
        for unit in (0.0, 0.5, 1.0):
            config(model, kt_enabled=True, **{key: space[key].at(unit)})
    default, weights = made["kt_closed_form_weight"], space["kt_closed_form_weight"]
    assert default is None or weights.low <= default <= weights.high
    assert list(arm_space(search_spaces(config(model)), config(model), {})) == list(space)[:-2]


def test_neighbours_are_among_the_ways_that_tuning_tries():
    space = arm_space(search_spaces(config()), config(kt_enabled=True), {})
    assert "neighbours" in space["kt_hybrid"].plain() and "none" in space["kt_hybrid"].plain()
    assert {"kt_neighbours", "kt_hybrid_scale"} <= {*space}


def test_files_lie_over_one_another_key_by_key(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "shared:\n  weight_decay: [0.0, 1e-6]\n"
        "transfer:\n  kt_init: ~\n"
        "models:\n  BPR:\n    shared:\n      embedding_size: [32, 64]\n"
        "  NeuMF:\n    shared:\n      mlp_hidden_size: [[64, 32], [32]]\n"
    )
    spaces = search_spaces(config(), path)
    assert list(spaces["shared"]) == ["learning_rate", "weight_decay", "embedding_size"]
    assert "kt_init" not in spaces["transfer"]
    assert "kt_weight" in spaces["transfer"]
    neumf = search_spaces(config("NeuMF"), path)["shared"]
    assert plain_space(neumf)["mlp_hidden_size"] == [[64, 32], [32]]


def test_a_preset_says_what_is_searched_with_it_and_the_file_has_the_last_word(tmp_path):
    own = [*search_spaces(config())["shared"]]
    for model, keys in (("BPR", own), ("EASE", ["reg_weight"])):
        made = config(model, kt_enabled=True, kt_preset="recommended")
        assert list(arm_space(search_spaces(made, None, "recommended"), made, {})) == keys
    made = config(kt_enabled=True, kt_preset="recommended")
    space = tmp_path / "space.yaml"
    space.write_text("transfer: {kt_hybrid_scale: [0.5, 1.0]}")
    spaces = search_spaces(made, space, "recommended")
    assert list(arm_space(spaces, made, {})) == [*own, "kt_hybrid_scale"]


def test_a_study_searches_what_its_preset_says(tmp_path):
    preset = tmp_path / "preset.yaml"
    preset.write_text(
        "kt_loss: mse\nsearch: {transfer: {kt_loss: [mse, rmse]}, shared: {learning_rate: ~}}"
    )
    plan = replace(PLAN, overrides={**PLAN.overrides, "kt_preset": str(preset)})
    base, kt = _studies(Tuning(plan, 4), 2)  # of runs as a command makes them
    assert list(base.space) == ["weight_decay"]
    assert "learning_rate" not in kt.space and kt.space["kt_loss"].plain() == ["mse", "rmse"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("search: [kt_loss]", "'search' must hold 'section:' lines"),
        ("search: {transfre: {kt_loss: [mse]}}", "Did you mean 'transfer'"),
        ("search: {transfer: {kt_lss: [mse]}}", "Did you mean 'kt_loss'"),
    ],
)
def test_a_presets_bad_search_is_refused_before_anything_runs(tmp_path, text, message):
    preset = tmp_path / "preset.yaml"
    preset.write_text(text)
    plan = replace(PLAN, overrides={**PLAN.overrides, "kt_preset": str(preset)})
    with pytest.raises(ConfigError, match=message):
        tune(Tuning(plan, 4), tmp_path / "out", train=forbidden_train)
    assert not (tmp_path / "out").exists()


def test_what_an_arm_searches():
    spaces = search_spaces(config())
    shared, transfer = (list(spaces[name]) for name in ("shared", "transfer"))
    assert list(arm_space(spaces, config(), {})) == shared
    assert list(arm_space(spaces, config(kt_enabled=True), {})) == [*shared, *transfer]
    held = arm_space(spaces, config(kt_enabled=True), {"kt_weight", "learning_rate"})
    assert not {"kt_weight", "learning_rate"} & {*held}
    kar = arm_space(spaces, config("DeepFM", kt_enabled=True, kt_method="kar"), {})
    assert {key for key in kar if key.startswith("kt_")} == {*spaces["kar"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shraed: {}", "Did you mean 'shared'"),
        ("shared: [learning_rate]", "must hold 'key: values'"),
        ("transfer: {kt_kar_hidden: [64]}", "Move it to the section 'kar'"),
        ("transfer: {kt_closed_form: [rows]}", "Move it to the section 'closed_form'"),
        ("transfer: {1: [1]}", "must hold 'key: values'"),
        ("models: 3", "a section for each model"),
        ("shared: {learning_rate: 0.1}", "write a list of choices"),
        ("shared: {learning_rate: {low: 1, high: 0.1}}", "low below high"),
        ("shared: {learning_rate: {low: 0.0, high: 0.1, log: True}}", "above 0 with log"),
        ("shared: {learning_rate: {low: a, high: 0.1}}", "must be numbers"),
        ("transfer: {kt_weight: {low: 0.1, high: 2.0}}", "kt_weight: 2.0"),
        ("transfer: {kt_loss: [rmse, msee]}", "Did you mean 'mse'"),
        ("transfer: {kt_wieght: [1.0]}", "Did you mean 'kt_weight'"),
    ],
)
def test_a_bad_space_is_refused_before_anything_runs(tmp_path, text, message):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        tune(Tuning(PLAN, 4, path), tmp_path / "out", train=forbidden_train)
    assert not (tmp_path / "out").exists()


def test_points_are_spread_evenly_and_begin_alike():
    spaces = search_spaces(config())
    points = quasi_random(spaces, 16, seed=7)
    assert quasi_random(spaces, 5, seed=7) == points[:5]
    assert quasi_random(spaces, 5, seed=8) != points[:5]
    low = sum(point["learning_rate"] < math.sqrt(1e-4 * 2e-2) for point in points)
    assert low == 8
    assert all(
        sum(point["kt_init"] == init for point in points) == 8 for init in ("none", "targets")
    )


def test_a_slip_in_a_space_is_named(tmp_path, caplog):
    space = tmp_path / "space.yaml"
    space.write_text("shared: {learning_rat: ~, reg_weight: ~}")
    search_spaces(config(), space)
    assert "'learning_rat'. Did you mean 'learning_rate'" in caplog.text
    assert "reg_weight" not in caplog.text
