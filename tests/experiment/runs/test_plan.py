from __future__ import annotations

import pytest

from recbole_llmkt.cli.overrides import parse_overrides
from recbole_llmkt.experiment.runs.arms import arm_settings, control_of
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.runs.settings import deciding_settings, digest
from recbole_llmkt.keys.table import without_secrets
from recbole_llmkt.utils.exceptions import ConfigError


def plan(**changes):
    values = {"models": ["BPR"], "arms": ["base", "kt"], "seeds": [1, 2], "dataset": "ml-100k"}
    return Plan(**{**values, **changes})


def test_every_arm_runs_with_every_seed():
    names = [run.name for run in plan().runs()]
    assert names == ["BPR-base-1", "BPR-kt-1", "BPR-base-2", "BPR-kt-2"]


def test_arms_differ_in_transfer_alone():
    base, kt, *_ = plan(arms=["base", "kt"]).runs()
    assert base.settings["kt_enabled"] is False
    assert kt.settings["kt_enabled"] is True
    ours = ("kt_", "profile_")
    stock = [
        {key: value for key, value in run.settings.items() if not key.startswith(ours)}
        for run in (base, kt)
    ]
    assert stock[0] == stock[1]


def test_transfer_keys_leave_the_base_arm_alone():
    before, after = (plan(overrides={"kt_weight": weight}).runs() for weight in (0.5, 0.3))
    assert before[0].digest == after[0].digest
    assert before[1].digest != after[1].digest


@pytest.mark.parametrize("key", ["gpu_id", "show_progress", "checkpoint_dir", "state"])
def test_the_digest_leaves_out_where_and_how_loudly_a_run_works(key):
    value = {"gpu_id": "1", "show_progress": False, "checkpoint_dir": "x", "state": "ERROR"}[key]
    assert plan(overrides={key: value}).runs()[0].digest == plan().runs()[0].digest


@pytest.mark.parametrize("change", [{"learning_rate": 0.5}, {"seed": 9}, {"epochs": 7}])
def test_the_digest_knows_what_decides(change):
    run = plan().runs()[0]
    assert digest({**run.settings, **change}) != run.digest


def test_own_arms_are_the_kt_arm_with_other_keys():
    run = plan(arms=["mse"], own_arms={"mse": {"kt_loss": "mse"}}).runs()[0]
    assert run.settings["kt_loss"] == "mse"
    assert run.settings["kt_enabled"] is True


def test_the_control_of_an_own_arm_is_named_not_defined():
    own = {"init": {"kt_init": "targets", "kt_weight": 0.0}}
    init, twin = plan(arms=["init", "init+shuffled"], own_arms=own, seeds=[1]).runs()
    assert (init.settings["kt_control"], twin.settings["kt_control"]) == ("none", "shuffled")
    differ = {k for k in init.settings if init.settings[k] != twin.settings[k]}
    assert differ == {"kt_control"}
    assert twin.name == "BPR-init+shuffled-1"
    assert [control_of(arm) for arm in ("kt", "init")] == ["shuffled", "init+shuffled"]


@pytest.mark.parametrize(
    ("name", "own", "message"),
    [
        ("init+shufled", {"init": {}}, "Did you mean 'shuffled'"),
        ("kt+shuffled", {}, "Unknown arm"),
        ("a", {"a/b": {}}, "cannot be called 'a/b'"),
        ("a", {"a+b": {}}, r"NAME\+shuffled"),
        ("base", {"base": {"kt_weight": 0.1}}, "cannot be called 'base'"),
    ],
)
def test_arms_that_cannot_be(name, own, message):
    with pytest.raises(ConfigError, match=message):
        arm_settings(name, own)


def test_a_key_at_its_default_is_not_in_the_digest():
    settings = dict(plan().runs()[1].settings)
    older = {key: value for key, value in settings.items() if key != "kt_init"}
    assert digest(older) == digest(settings)
    assert digest({**settings, "kt_init": "targets"}) != digest(settings)
    assert digest({**settings, "kt_weight": True}) != digest({**settings, "kt_weight": 1})


def test_a_file_with_a_section_for_each_model(tmp_path):
    preset = tmp_path / "experiment.yaml"
    preset.write_text("epochs: 3\nmodels:\n  NeuMF: {epochs: 7}\n")
    runs = plan(models=["BPR", "NeuMF"], overrides={"kt_preset": str(preset)}).runs()
    assert [run.epochs for run in runs] == [3, 3, 3, 3, 7, 7, 7, 7]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ["base", "suffled"]}, "Did you mean 'shuffled'"),
        ({"models": ["NeuMFF"]}, "Did you mean 'NeuMF'"),
        ({"models": []}, "No model is given"),
        ({"seeds": [1, 1]}, "Given twice: seed 1"),
        ({"overrides": {"kt_weight": 1.5}}, "kt_weight: 1.5"),
        ({"models": ["Pop"]}, "Pop takes no profiles"),
        ({"config_files": ["missing.yaml"]}, "missing.yaml"),
    ],
)
def test_a_bad_plan_is_refused_before_anything_runs(changes, message):
    with pytest.raises(ConfigError, match=message):
        plan(**changes).runs()


def test_overrides_are_values_not_code():
    overrides = parse_overrides(["--kt_weight=0.3", "topk=[5, 10]", "--note=__import__('os')"])
    assert overrides == {"kt_weight": 0.3, "topk": [5, 10], "note": "__import__('os')"}


@pytest.mark.parametrize("argument", ["--kt_weight", "kt weight=3", "stray", "--=4"])
def test_other_arguments_are_refused(argument):
    with pytest.raises(ConfigError, match=r"write --(key|kt_weight)=value"):
        parse_overrides([argument])


def test_a_slip_in_an_arm_is_refused_and_another_models_key_is_not(caplog):
    values = {"models": ["BPR", "SimpleX"], "overrides": {"negative_weight": 10}}
    with pytest.raises(ConfigError, match=r"'learning_rat'. Did you mean 'learning_rate'"):
        plan(**values, arms=["x"], own_arms={"x": {"learning_rat": 0.1}}).runs()
    plan(**values, arms=["x"], own_arms={"x": {"zebra": 0.1}}).runs()
    assert "'zebra'" in caplog.text
    assert "negative_weight" not in caplog.text


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="Given twice: model BPR"):
        plan(models=["BPR", "recbole.model.general_recommender.bpr.BPR"]).runs()


def test_a_run_has_the_settings_that_its_files_had_when_it_was_planned(tmp_path):
    file, preset = tmp_path / "one.yaml", tmp_path / "preset.yaml"
    file.write_text("learning_rate: 0.001")
    preset.write_text("kt_weight: 0.25\nkt_slices: [cold_users]")
    keys = {"config_files": [str(file)], "overrides": {"kt_preset": str(preset)}}
    run = plan(**keys, arms=["kt"]).runs()[0]
    file.write_text("learning_rate: 0.5")
    preset.unlink()
    config = run.config()
    assert (config["learning_rate"], config["kt_weight"]) == (0.001, 0.25)
    assert config["kt_slices"] == ["cold_users"]
    assert plan().runs()[0].config()["kt_slices"] == ["history", "tail_items"]
    assert deciding_settings(config) == run.settings


def test_epochs_after_the_last_validation_count():
    run = plan(overrides={"epochs": 10, "eval_step": 4}).runs()[0]
    assert (run.epochs_until(4), run.epochs_until(8)) == (4, 10)
    assert plan(overrides={"epochs": 10}).runs()[0].epochs_until(10) == 10


def test_a_key_that_nobody_knows_is_named(caplog):
    plan(overrides={"epoch": 3, "kt_strict_keys": False}).runs()
    assert "Did you mean 'epochs'" in caplog.text


def test_the_password_of_an_address_reaches_the_run_and_no_record(tiny):
    address = "http://me:pa55-w0rd@127.0.0.1:9/v1"
    overrides = {**tiny.settings(), "profile_api_base": address}
    (run,) = Plan(["BPR"], ["kt"], [1], "tiny", overrides=overrides).runs()
    config = run.config()
    assert config["profile_api_base"] == address
    assert "pa55-w0rd" not in f"{run.settings} {config} {config.plain()} {config.final_config_dict}"
    config["profile_api_base"] = "http://other/v1"
    assert config["profile_api_base"] == "http://other/v1"
    assert without_secrets(overrides)["profile_api_base"] == "http://127.0.0.1:9/v1"
