"""What one folder may hold, and which seeds one arm may have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from recbole_llmkt.config import Config
from recbole_llmkt.datasets.loading import files_digest
from recbole_llmkt.experiment.runs.arms import arm_settings
from recbole_llmkt.experiment.runs.compare import compare
from recbole_llmkt.experiment.runs.consistency import check_comparable
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.runs.records import RunRecord
from recbole_llmkt.experiment.tuning.finals import Finals
from recbole_llmkt.experiment.tuning.tune import Tuning, tune
from recbole_llmkt.utils.exceptions import ConfigError, DataError
from tests.experiment.fake_runs import PLAN as TUNED
from tests.experiment.fake_runs import fake_train, forbidden_train, in_process, winner

OWN = {"wide": {"embedding_size": 32}, "mse": {"kt_loss": "mse"}}


@in_process
def fake_test(config, saved=True, on_epoch=None):
    return {**fake_train(config, saved, on_epoch), "test_result": {"ndcg@10": 0.1}}


def runs_of(arms, seeds=(1,), **overrides):
    keys = {"epochs": 2, **overrides}
    return Plan(["BPR"], arms, list(seeds), "ml-100k", overrides=keys, own_arms=OWN).runs()


def records_of(runs, **changes):
    names = ("model", "arm", "seed", "dataset", "digest", "settings", "arm_keys", "data")
    return [
        RunRecord(**{**{name: getattr(run, name) for name in names}, **changes}) for run in runs
    ]


def test_arms_and_seeds_may_differ():
    known = records_of(runs_of(["base", "kt", "wide", "mse"], (1, 2)))
    check_comparable(runs_of(["base", "wide", "mse", "random"], (2, 3)), known)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (["base"], ["kt"], "BPR-base-1 .* than BPR-kt-2 .*epochs 2 -> 3"),
        (["wide"], ["mse"], "epochs 2 -> 3"),
        (["base"], ["base"], "epochs 2 -> 3"),
    ],
)
def test_settings_do_not_mix_across_arms_and_seeds(old, new, message):
    known, later = records_of(runs_of(old)), runs_of(new, (2,), epochs=3)
    with pytest.raises(DataError, match=message):
        check_comparable(later, known)
    check_comparable(later, [replace(record, status="failed") for record in known])


def test_a_base_validated_on_fewer_users_is_another_base():
    known, later = records_of(runs_of(["base"])), runs_of(["kt"], (2,), kt_valid_users=100)
    with pytest.raises(DataError, match="kt_valid_users"):
        check_comparable(later, known)


def test_of_one_arm_the_keys_of_this_package_count_too():
    known = records_of(runs_of(["mse"], kt_weight=0.1))
    with pytest.raises(DataError, match=r"kt_weight 0\.1 -> 0\.2"):
        check_comparable(runs_of(["mse"], (2,), kt_weight=0.2), known)
    check_comparable(runs_of(["kt"], (2,), kt_weight=0.2), known)


@pytest.mark.parametrize(("arm", "control"), [("kt", "shuffled"), ("mse", "mse+random")])
def test_an_arm_and_its_control_differ_by_nothing_else(arm, control):
    known = records_of(runs_of([arm], kt_weight=0.1))
    check_comparable(runs_of([control], (1, 2), kt_weight=0.1), known)
    check_comparable(runs_of(["wide"], kt_weight=0.2), known)
    with pytest.raises(DataError, match=r"kt_weight 0\.1 -> 0\.2"):
        check_comparable(runs_of([control], kt_weight=0.2), known)
    tuned = [replace(record, tuned=winner({"kt_weight": 0.1})) for record in known]
    check_comparable(runs_of([control], kt_weight=0.2), tuned)


def test_what_an_arm_is_tuned_to_is_its_own():
    tuned = {("BPR", "base"): winner({"learning_rate": 0.1}), ("BPR", "kt"): winner()}
    base, kt = Plan(["BPR"], ["base", "kt"], [1], "ml-100k", tuned=tuned).runs()
    check_comparable([kt], records_of([base]))
    with pytest.raises(DataError, match="learning_rate"):
        check_comparable([kt], records_of([base], arm_keys=[]))
    check_comparable([kt], records_of([base], arm_keys=None))  # of a version without them


def test_a_control_may_fall_back_to_base_alone():
    lost = replace(winner({"kt_enabled": False}), fell_back=True)
    tuned = {("BPR", "mse"): winner(), ("BPR", "mse+random"): lost}
    arms = list(arm for _, arm in tuned)
    runs = Plan(["BPR"], arms, [1, 2], "ml-100k", own_arms=OWN, tuned=tuned).runs()
    known = [record for run in runs for record in records_of([run], tuned=run.tuned)]
    check_comparable(runs, known)
    with pytest.raises(DataError, match="learning_rate"):
        check_comparable(
            runs, [replace(known[-1], settings={**known[-1].settings, "learning_rate": 7})]
        )


def test_a_comparison_refuses_what_would_mix(tmp_path):
    plan = {"models": ["BPR"], "dataset": "ml-100k"}
    compare(
        Plan(arms=["base"], seeds=[1], overrides={"epochs": 40}, **plan), tmp_path, 1, fake_test
    )
    with pytest.raises(DataError, match="epochs 40 -> 5"):
        compare(
            Plan(arms=["kt"], seeds=[1, 2], overrides={"epochs": 5}, **plan),
            tmp_path,
            train=forbidden_train,
        )


def test_other_data_under_the_same_name_do_not_mix(tiny):
    before = files_digest(tiny.folder, "tiny")
    run = Plan(["BPR"], ["base"], [1], "tiny", overrides=tiny.settings()).runs()[0]
    assert run.data == before != ""
    with (tiny.folder / "tiny.inter").open("a") as file:
        file.write("u1\ti2\t3\t9\n")
    later = Plan(["BPR"], ["base"], [1], "tiny", overrides=tiny.settings()).runs()
    assert files_digest(tiny.folder, "tiny") == later[0].data != before
    with pytest.raises(DataError, match="BPR-base-1 was recorded with other data"):
        check_comparable(later, records_of([run]))
    check_comparable(later, records_of([run], data=""))  # of before they were downloaded
    assert files_digest(tiny.folder / "nowhere", "tiny") == ""


def test_digests_of_earlier_versions_are_compared_in_their_format(tiny):
    run = Plan(["BPR"], ["base"], [1], "tiny", overrides=tiny.settings()).runs()[0]
    partial = files_digest(tiny.folder, "tiny", recorded="0" * 16)
    assert len(partial) == 16
    check_comparable([run], records_of([run], data=partial))
    with (tiny.folder / "tiny.inter").open("a") as file:
        file.write("u1\ti2\t3\t9\n")
    later = Plan(["BPR"], ["base"], [1], "tiny", overrides=tiny.settings()).runs()
    with pytest.raises(DataError, match="BPR-base-1 was recorded with other data"):
        check_comparable(later, records_of([run], data=partial))


# ---- seeds ------------------------------------------------------------------------------------


def random_split(**overrides):
    split = {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": None}}
    keys = {"epochs": 2, **split, **overrides}
    return Plan(["BPR"], ["base", "kt"], [1, 2], "ml-100k", overrides=keys)


def test_a_random_split_has_profiles_of_one_seed(tmp_path):
    with pytest.raises(ConfigError, match=r"BPR, arm kt: with `order: RO` .*--seeds=1"):
        compare(random_split(), tmp_path / "out", train=forbidden_train)
    tuning = Tuning(replace(random_split(), seeds=[1]), 2, finals=Finals(1))
    with pytest.raises(ConfigError, match="--finalists=0"):
        tune(tuning, tmp_path / "study", train=forbidden_train)
    assert not (tmp_path / "out").exists() and not (tmp_path / "study").exists()


def test_tuning_on_profiles_that_may_know_the_validation_part_is_refused(tmp_path, caplog):
    def run(**keys):
        plan = replace(TUNED, overrides={**TUNED.overrides, **keys})
        tune(Tuning(plan, 1, finals=Finals(1)), tmp_path / "out", jobs=2, train=fake_train)

    with pytest.raises(ConfigError, match=r"BPR, arm kt: .*kt_entity: item.*allow_leak: tune"):
        run(profile_allow_leak=True)
    assert not (tmp_path / "out").exists() and not caplog.text
    run(profile_allow_leak=True, kt_entity="item")
    assert "profile_allow_leak" not in caplog.text


def test_tuning_on_such_profiles_can_be_allowed(tmp_path, caplog):
    keys = {**TUNED.overrides, "profile_allow_leak": "tune"}
    tune(Tuning(replace(TUNED, overrides=keys), 1), tmp_path, jobs=2, train=fake_train)
    assert "BPR, arm kt: profile_allow_leak is on" in caplog.text


@pytest.mark.parametrize(
    "keys",
    [
        {"kt_entity": "item"},
        {"profile_allow_leak": "tune"},
        {"kt_weight": 0.0},
        {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user"}},
    ],
)
def test_where_seeds_do_not_matter_to_profiles(tmp_path, keys):
    plan = replace(random_split(**keys), seeds=[1])
    lines = tune(Tuning(plan, 1, finals=Finals(1)), tmp_path, jobs=2, train=fake_train)
    compare(replace(plan, seeds=[1, 2]), tmp_path / "out", jobs=2, train=fake_test)
    assert all(trial.ok for trial in lines)


@pytest.mark.parametrize(
    "keys", [{"kt_init": "targets"}, {"kt_hybrid": "linear"}, {"kt_cold_start": True}]
)
def test_tables_know_users_without_a_loss(tmp_path, keys):
    with pytest.raises(ConfigError, match="order: RO"):
        compare(random_split(kt_weight=0.0, **keys), tmp_path, train=forbidden_train)


# ---- search spaces and names ------------------------------------------------------------------


def test_arms_are_tuned_over_one_space(tmp_path):
    narrow, more = tmp_path / "narrow.yaml", tmp_path / "more.yaml"
    narrow.write_text("shared: {learning_rate: {low: 0.001, high: 0.002}}")
    more.write_text("transfer: {kt_temperature: [0.1, 0.2]}")
    base, kt = (Plan(["BPR"], [arm], [7], "ml-100k", overrides={"epochs": 2}) for arm in TUNED.arms)
    tune(Tuning(base, 1), tmp_path / "out", jobs=1, train=fake_train)
    for space, message in ((narrow, "learning_rate"), (more, "kt_temperature")):
        with pytest.raises(DataError, match=f"BPR/kt differs from that of BPR/base .*{message}"):
            tune(Tuning(kt, 1, space), tmp_path / "out", train=forbidden_train)
    fixed = Plan(
        ["BPR"], ["slow"], [7], "ml-100k", overrides={"epochs": 2},
        own_arms={"slow": {"learning_rate": 0.001}},
    )  # fmt: skip
    tune(Tuning(fixed, 1), tmp_path / "out", jobs=1, train=fake_train)


def test_an_arm_and_its_control_are_tuned_over_one_space(tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("transfer: {kt_weight: {low: 0.0001, high: 0.0002}}")
    base, kt, shuffled = (
        Plan(["BPR"], [arm], [7], "ml-100k", overrides={"epochs": 2})
        for arm in ("base", "kt", "shuffled")
    )
    tune(Tuning(base, 1), tmp_path / "out", jobs=1, train=fake_train)
    tune(Tuning(kt, 1), tmp_path / "out", jobs=1, train=fake_train)
    with pytest.raises(DataError, match=r"BPR/shuffled differs from that of BPR/kt .*kt_weight"):
        tune(Tuning(shuffled, 1, other), tmp_path / "out", train=forbidden_train)
    tune(Tuning(shuffled, 1), tmp_path / "out", jobs=1, train=fake_train)


def test_a_seed_among_the_keys_is_a_slip(tmp_path):
    plan = Plan(["BPR"], ["base"], [1], "ml-100k", overrides={"seed": 7})
    with pytest.raises(ConfigError, match="takes --seeds"):
        plan.runs()


def test_the_controls_of_kt_have_names_of_their_own():
    with pytest.raises(ConfigError, match="controls of the arm kt are called shuffled and random"):
        arm_settings("kt+shuffled", {})


def test_a_file_for_several_models_is_a_preset(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models: {BPR: {epochs: 3}}")
    with pytest.raises(ConfigError, match=f"--kt_preset={path}"):
        Config("BPR", "ml-100k", [str(path)], command_line=[])
    assert Config("BPR", "ml-100k", [], {"kt_preset": str(path)}, [])["epochs"] == 3
