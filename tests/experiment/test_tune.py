from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recbole_llmkt.config import Config
from recbole_llmkt.exceptions import ConfigError, DataError
from recbole_llmkt.experiment.compare import compare
from recbole_llmkt.experiment.finals import Finals, read_finals
from recbole_llmkt.experiment.plan import Plan
from recbole_llmkt.experiment.search import arm_space, plain_space, quasi_random, search_spaces
from recbole_llmkt.experiment.tune import Tuning, read_trials, tune
from recbole_llmkt.experiment.winners import tuned_plan

PLAN = Plan(["BPR"], ["base", "kt"], [7], "ml-100k", overrides={"epochs": 2})
SHARED = ["learning_rate", "weight_decay"]


def config(model="BPR", **keys):
    return Config(model, "ml-100k", config_dict={"kt_enabled": False, **keys}, command_line=[])


def fake_train(config, saved=True, on_epoch=None):
    """Stand in for training: best at a learning rate of .002, and no test figure."""
    assert config["learning_rate"] < 0.015, "too fast"
    on_epoch(0, 0.1)
    score = 1.0 - abs(math.log10(config["learning_rate"] / 0.002)) - 1e3 * config["weight_decay"]
    return {
        "best_valid_score": score,
        "best_valid_result": {"ndcg@10": score},
        "test_result": None,
    }


def forbidden_train(config, saved=True, on_epoch=None):
    raise AssertionError("this trial was done already")


def by_arm(lines):
    return {
        arm: [one for one in lines if one["arm"] == arm]
        for arm in dict.fromkeys(one["arm"] for one in lines)
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return folder, tune(Tuning(PLAN, 12), folder, jobs=1, train=fake_train)


# ---- search spaces ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("BPR", ["learning_rate", "weight_decay"]),
        ("NeuMF", ["learning_rate", "weight_decay", "dropout_prob"]),
        ("SimpleX", ["learning_rate", "reg_weight", "dropout_prob"]),
        ("LightGCN", ["learning_rate", "reg_weight"]),
        ("SASRec", ["learning_rate", "weight_decay", "hidden_dropout_prob", "attn_dropout_prob"]),
        ("DCN", ["learning_rate", "reg_weight", "dropout_prob", "weight_decay"]),
    ],
)
def test_a_models_own_keys_are_found(model, keys):
    extra = {"train_neg_sample_args": None} if model == "SASRec" else {}
    assert list(search_spaces(config(model, **extra))["shared"]) == keys


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
    assert all(sum(point["kt_init"] == one for point in points) == 8 for one in ("none", "targets"))


# ---- trials -----------------------------------------------------------------------------------


def test_all_arms_start_as_configured_and_share_their_first_points(study):
    _, lines = study
    base, kt = by_arm(lines).values()
    assert len(base) == len(kt) == 12
    assert base[0]["keys"] == kt[0]["keys"] == {}
    for one, other in zip(base[1:11], kt[1:11]):
        assert one["keys"] == {key: other["keys"][key] for key in SHARED}
        assert {*other["keys"]} > {*SHARED}
    later = [[line["keys"]["learning_rate"] for line in arm[11:]] for arm in (base, kt)]
    assert later[0] != later[1]


def test_the_search_gets_better_and_no_line_has_a_test_figure(study):
    folder, lines = study
    best = [max(one["score"] for one in arm if "score" in one) for arm in by_arm(lines).values()]
    assert min(best) > 0.6
    assert "test" not in (folder / "trials.jsonl").read_text()
    assert lines == read_trials(folder)
    assert {line["epochs"] for line in lines if line["status"] == "ok"} == {1}


def test_a_second_start_does_nothing_and_more_trials_go_on(study):
    folder, lines = study
    again = tune(Tuning(PLAN, 12), folder, jobs=1, train=forbidden_train)
    assert again == lines
    (folder / "trials.jsonl").unlink()
    more = tune(Tuning(PLAN, 13), folder, jobs=1, train=fake_train)
    assert len(more) == 26
    assert [line for line in more if line["trial"] < 12] == lines


def fragile_train(config, saved=True, on_epoch=None):
    if config["kt_enabled"]:
        os.kill(os.getpid(), signal.SIGKILL)
    result = fake_train(config, saved, on_epoch)
    return {**result, "best_valid_score": float("nan")}


def test_failed_trials_are_recorded_with_their_reason(tmp_path):
    lines = tune(Tuning(PLAN, 1), tmp_path, jobs=2, train=fragile_train)
    base, kt = lines
    assert base["error"] == "the validation score is nan"
    assert "killed" in kt["error"]
    assert tune(Tuning(PLAN, 1), tmp_path, train=forbidden_train) == lines
    with pytest.raises(DataError, match="BPR, arm base: no trial succeeded"):
        tuned_plan(tmp_path, Plan([], [], [1], ""))


def broken_train(config, saved=True, on_epoch=None):
    raise DataError("no data today")


def test_a_study_without_any_score_ends_all_the_same(tmp_path):
    lines = tune(Tuning(PLAN, 4), tmp_path, jobs=1, train=broken_train)
    assert [line["error"] for line in lines] == ["no data today"] * 8


def test_an_own_arm_and_its_control_search_what_it_leaves_open(tmp_path):
    own = {"init": {"kt_init": "targets", "kt_weight": 0.0}}
    arms = ["init", "init+shuffled"]
    plan = Plan(["BPR"], arms, [7], "ml-100k", overrides={"epochs": 1}, own_arms=own)
    lines = by_arm(tune(Tuning(plan, 2), tmp_path, jobs=1, train=fake_train))
    assert [line["keys"] for line in lines["init"]] == [
        line["keys"] for line in lines["init+shuffled"]
    ]
    assert not {"kt_init", "kt_weight"} & {*lines["init"][1]["keys"]}
    init, control = tuned_plan(tmp_path, Plan([], [], [1], "")).runs()
    assert (init.arm, init.settings["kt_control"]) == ("init", "none")
    assert (control.arm, control.settings["kt_control"]) == ("init+shuffled", "shuffled")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overrides": {"epochs": 3}}, "another overrides"),
        ({"seeds": [8]}, "another seed"),
        ({"overrides": {"epochs": 2, "learning_rate": 0.1}}, "another overrides"),
    ],
)
def test_a_folder_is_gone_on_with_as_it_was_begun(study, changes, message):
    folder, _ = study
    values = {"models": ["BPR"], "arms": ["base"], "seeds": [7], "dataset": "ml-100k"}
    plan = Plan(**{**values, "overrides": {"epochs": 2}, **changes})
    before = {path: path.read_bytes() for path in folder.glob("*.js*")}
    with pytest.raises(DataError, match=message):
        tune(Tuning(plan, 2), folder, train=forbidden_train)
    assert {path: path.read_bytes() for path in folder.glob("*.js*")} == before


def test_a_space_that_changed_is_named(study, tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("shared: {weight_decay: ~}")
    with pytest.raises(DataError, match="another search space of BPR/base"):
        tune(Tuning(PLAN, 2, path), study[0], train=forbidden_train)


def test_keys_of_the_command_line_are_held(tmp_path):
    held = {"learning_rate": 0.01, "weight_decay": 0.0}
    plan = Plan(["BPR"], ["base"], [7], "ml-100k", overrides=held)
    with pytest.raises(ConfigError, match="nothing is left to tune"):
        tune(Tuning(plan, 2), tmp_path / "out", train=forbidden_train)


def test_without_optuna_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "recbole_llmkt.experiment.study", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'recbole_llmkt\[tune\]'"):
        tune(Tuning(PLAN, 2), tmp_path / "out", train=forbidden_train)


# ---- interrupted ------------------------------------------------------------------------------


def slow_train(config, saved=True, on_epoch=None):
    Path("pid").write_text(str(os.getpid()))
    if config["learning_rate"] != 0.001:
        time.sleep(60)
    return fake_train(config, saved, on_epoch)


KILLED = """
from pathlib import Path
from test_tune import PLAN, slow_train
from recbole_llmkt.experiment.tune import Tuning, tune
if __name__ == "__main__":
    tune(Tuning(PLAN, 4), Path("out"), jobs=2, train=slow_train)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes under /proc")
def test_a_killed_study_goes_on_as_if_it_never_stopped(tmp_path):
    Path("killed.py").write_text(KILLED)
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen([sys.executable, "killed.py"], env=here, stderr=subprocess.DEVNULL)
    pids = [Path(f"out/runs/BPR-{arm}-t001/pid") for arm in ("base", "kt")]
    _wait_until(lambda: all(path.is_file() and path.read_text() for path in pids))
    process.kill()
    process.wait()
    _wait_until(lambda: not any(Path(f"/proc/{path.read_text()}").exists() for path in pids))
    with Path("out/study.journal").open("ab") as journal:
        journal.write(b'{"op_code": 4, "wor')  # a line cut short
    Path("out/study.journal.lock").symlink_to("study.journal")
    lines = tune(Tuning(PLAN, 4), Path("out"), jobs=1, train=fake_train)
    whole = tune(Tuning(PLAN, 4), tmp_path / "whole", jobs=1, train=fake_train)
    assert [line["keys"] for line in lines] == [line["keys"] for line in whole]


def _wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


# ---- winners ----------------------------------------------------------------------------------


def test_the_winners_are_compared_and_noted(study, tmp_path):
    folder, _ = study
    plan = tuned_plan(folder, Plan([], [], [1, 2], ""))
    records = compare(plan, tmp_path, jobs=2, train=fake_test)
    assert len(records) == 4
    for record in records:
        own = [one for one in read_trials(folder) if one["arm"] == record["arm"]]
        best = max((one for one in own if "score" in one), key=lambda one: one["score"])
        assert record["tuned"]["keys"] == best["keys"]
        assert record["tuned"]["trials"] == len(own)
        assert record["tuned"]["unequal"] is False
        assert {key: record["settings"][key] for key in best["keys"]} == best["keys"]
        assert record["settings"]["epochs"] == 2


# ---- the last round ---------------------------------------------------------------------------


def lucky_train(config, saved=True, on_epoch=None):
    """Stand in for training: with seed 7, and no other, fast learning seems best."""
    result = fake_train(config, saved, on_epoch)
    luck = 1.0 if config["seed"] == 7 and config["learning_rate"] > 0.008 else 0.0
    return {**result, "best_valid_score": result["best_valid_score"] + luck}


def tuned_base(folder):
    return tuned_plan(folder, Plan([], ["base"], [1], "")).tuned["BPR", "base"]


def test_what_was_luck_does_not_win_the_last_round(tmp_path):
    lines = tune(Tuning(PLAN, 12), tmp_path, jobs=1, train=lucky_train)
    before = tuned_base(tmp_path)
    assert before["keys"]["learning_rate"] > 0.008
    assert before["seeds"] == 1
    finals = Finals(finalists=12)
    again = tune(Tuning(PLAN, 12, finals=finals), tmp_path, jobs=2, train=lucky_train)
    assert again == lines
    good = sum(line["status"] == "ok" for line in lines)
    played = read_finals(tmp_path)
    assert len(played) == 2 * good
    assert {line["seed"] for line in played} == {8, 9}
    after = tuned_base(tmp_path)
    assert after["keys"].get("learning_rate", 0.001) < 0.008
    assert after["seeds"] == 3
    own = [
        line["score"]
        for line in lines + played
        if line["arm"] == "base" and line["trial"] == after["trial"]
    ]
    assert after["score"] == pytest.approx(sum(own) / 3)
    tune(Tuning(PLAN, 12, finals=finals), tmp_path, jobs=1, train=forbidden_train)
    path = tmp_path / "finals.jsonl"
    path.write_text(path.read_text()[:-20])
    tune(Tuning(PLAN, 12, finals=finals), tmp_path, jobs=1, train=lucky_train)
    assert len(read_finals(tmp_path)) == 2 * good


def failing_finals(config, saved=True, on_epoch=None):
    if config["seed"] == 8 and (config["kt_enabled"] or config["learning_rate"] > 0.008):
        raise DataError("not this time")
    return lucky_train(config, saved, on_epoch)


def test_a_finalist_that_fails_is_out(tmp_path):
    finals = Finals(finalists=12)
    tune(Tuning(PLAN, 12, finals=finals), tmp_path, jobs=1, train=failing_finals)
    assert tuned_base(tmp_path)["keys"].get("learning_rate", 0.001) < 0.008
    with pytest.raises(DataError, match="BPR, arm kt: every finalist failed"):
        tuned_plan(tmp_path, Plan([], [], [1], ""))


def test_trials_outside_the_last_round_do_not_step_in(tmp_path):
    tune(Tuning(PLAN, 3, finals=Finals(1)), tmp_path, jobs=1, train=failing_finals)
    with pytest.raises(DataError, match="BPR, arm kt: every finalist failed"):
        tuned_plan(tmp_path, Plan([], ["kt"], [1], ""))


def test_arms_without_a_last_round_are_not_compared_with_those_that_had_one(tmp_path):
    tune(Tuning(PLAN, 2), tmp_path, jobs=1, train=fake_train)
    kt = Plan(["BPR"], ["kt"], [7], "ml-100k", overrides={"epochs": 2})
    tune(Tuning(kt, 2, finals=Finals(1)), tmp_path, jobs=1, train=fake_train)
    with pytest.raises(ConfigError, match=r"numbers of finalists \(base 0, kt 1\)"):
        tuned_plan(tmp_path, Plan([], [], [1], ""))


def test_more_finalists_of_one_arm_are_no_fair_comparison(tmp_path):
    tune(Tuning(PLAN, 3, finals=Finals(1)), tmp_path, jobs=1, train=fake_train)
    kt = Plan(["BPR"], ["kt"], [7], "ml-100k", overrides={"epochs": 2})
    tune(Tuning(kt, 3, finals=Finals(2)), tmp_path, jobs=1, train=fake_train)
    with pytest.raises(ConfigError, match=r"numbers of finalists \(base 1, kt 2\)"):
        tuned_plan(tmp_path, Plan([], [], [1], ""))


def test_a_last_round_that_was_stopped_has_no_winner(tmp_path):
    tune(Tuning(PLAN, 3, finals=Finals(2)), tmp_path, jobs=1, train=fake_train)
    path = tmp_path / "finals.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(one for one in lines if '"seed": 9' not in one))
    with pytest.raises(DataError, match=r"BPR, arm base: the last round .* is not finished"):
        tuned_plan(tmp_path, Plan([], [], [1], ""))


def test_the_last_round_of_another_trial_with_the_same_number_does_not_count(tmp_path):
    finals = Finals(1)
    tune(Tuning(PLAN, 3, finals=finals), tmp_path, jobs=1, train=fake_train)
    path = tmp_path / "finals.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["keys"]["learning_rate"] = 0.0123
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    tune(Tuning(PLAN, 3, finals=finals), tmp_path, jobs=1, train=fake_train)
    assert len(read_finals(tmp_path)) == 2 * len(lines)


def test_files_that_changed_since_the_tuning_are_refused(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("epochs: 2")
    plan = Plan(["BPR"], ["base"], [7], "ml-100k", config_files=[str(file)])
    tune(Tuning(plan, 2), tmp_path / "study", jobs=1, train=fake_train)
    file.write_text("epochs: 3")
    with pytest.raises(DataError, match=r"another epochs of BPR/base \(2 -> 3\)"):
        tuned_plan(tmp_path / "study", Plan([], [], [1], ""))


def test_an_arm_added_with_more_trials_tries_the_points_of_the_others(tmp_path):
    base = Plan(["BPR"], ["base"], [7], "ml-100k", overrides={"epochs": 2})
    first = tune(Tuning(base, 4), tmp_path, jobs=1, train=fake_train)
    later = tune(Tuning(PLAN, 30), tmp_path, jobs=2, train=fake_train)
    rates = {
        arm: [line["keys"].get("learning_rate") for line in lines][:11]
        for arm, lines in by_arm(later).items()
    }
    assert rates["base"] == rates["kt"]
    assert rates["base"][:4] == [line["keys"].get("learning_rate") for line in first]
    assert json.loads((tmp_path / "tuning.json").read_text())["points"] == 10


def test_every_seed_of_the_tuning_is_named_where_it_comes_again(tmp_path, caplog):
    tune(Tuning(PLAN, 2, finals=Finals(1)), tmp_path, jobs=1, train=fake_train)
    tuned_plan(tmp_path, Plan([], [], [8, 10], ""))
    assert "Tuned with the seed 8, too" in caplog.text


def whole_train(config, saved=True, on_epoch=None):
    assert isinstance(config["embedding_size"], int)
    return fake_train(config, saved, on_epoch)


def test_between_integers_lie_integers_and_none_is_a_choice(tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text(
        "shared: {embedding_size: {low: 16, high: 128, log: True}, weight_decay: ~}\n"
        "transfer: {kt_projector_dim: [~, 32]}"
    )
    plan = Plan(["BPR"], ["kt"], [7], "ml-100k", overrides={"epochs": 2, "weight_decay": 0.0})
    lines = tune(Tuning(plan, 14, space), tmp_path / "out", jobs=1, train=whole_train)
    keys = [line["keys"] for line in lines if line["trial"]]
    assert len({one["embedding_size"] for one in keys}) > 5
    assert {one["kt_projector_dim"] for one in keys} == {None, 32}


def test_a_slip_in_a_space_is_named(tmp_path, caplog):
    space = tmp_path / "space.yaml"
    space.write_text("shared: {learning_rat: ~, reg_weight: ~}")
    search_spaces(config(), space)
    assert "'learning_rat'. Did you mean 'learning_rate'" in caplog.text
    assert "reg_weight" not in caplog.text


def fake_test(config, saved=True, on_epoch=None):
    return {**fake_train(config, saved, on_epoch), "test_result": {"ndcg@10": 0.5}}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"arms": ["base", "shuffled"]}, "BPR, arm shuffled: was not tuned"),
        ({"models": ["NeuMF"]}, "NeuMF, arm base: was not tuned"),
        ({"dataset": "ml-1m"}, "tuned on ml-100k, not on ml-1m"),
    ],
)
def test_what_was_not_tuned_is_refused(study, wanted, message):
    plan = Plan(**{"models": [], "arms": [], "seeds": [1], "dataset": "", **wanted})
    with pytest.raises((ConfigError, DataError), match=message):
        tuned_plan(study[0], plan)


def test_a_tuned_key_cannot_be_given(study):
    wanted = Plan([], [], [1], "", overrides={"weight_decay": 0.1})
    with pytest.raises(ConfigError, match="weight_decay was tuned"):
        tuned_plan(study[0], wanted).runs()


def test_unequal_trials_are_refused_or_noted(tmp_path):
    tune(Tuning(PLAN, 2), tmp_path, jobs=1, train=fake_train)
    more = Plan(["BPR"], ["kt"], [7], "ml-100k", overrides={"epochs": 2})
    tune(Tuning(more, 3), tmp_path, jobs=1, train=fake_train)
    wanted = Plan([], [], [1], "")
    with pytest.raises(ConfigError, match=r"different numbers of trials \(base 2, kt 3\)"):
        tuned_plan(tmp_path, wanted)
    found = tuned_plan(tmp_path, wanted, allow_unequal=True).tuned
    assert all(one["unequal"] for one in found.values())


def test_a_damaged_study_is_named(study, tmp_path):
    with pytest.raises(DataError, match="No study in"):
        tuned_plan(tmp_path, Plan([], [], [1], ""))
    (tmp_path / "tuning.json").write_text("{")
    with pytest.raises(DataError, match=r"tuning\.json is damaged"):
        tuned_plan(tmp_path, Plan([], [], [1], ""))
    (tmp_path / "tuning.json").write_bytes((study[0] / "tuning.json").read_bytes())
    (tmp_path / "trials.jsonl").write_text('{"model": "BPR"}\n')
    with pytest.raises(DataError, match=r"trials\.jsonl, line 1"):
        tuned_plan(tmp_path, Plan([], [], [1], ""))


# ---- for real ---------------------------------------------------------------------------------


def test_trials_never_look_at_the_test_part(tiny, monkeypatch):
    from recbole_llmkt import quick_start

    load_data = quick_start.load_data
    monkeypatch.setattr(quick_start, "load_data", lambda config: (*load_data(config)[:3], None))
    result = quick_start.train(tiny.config(epochs=2), False, verbose=False, evaluate_test=False)
    assert result["test_result"] is None
    assert 0.0 <= result["best_valid_score"] <= 1.0


def test_real_trials(tiny):
    Path("tiny.yaml").write_text(json.dumps(tiny.settings(epochs=2)))
    plan = Plan(["BPR"], ["base", "kt"], [7], "tiny", config_files=["tiny.yaml"])
    space = Path("space.yaml")
    space.write_text("transfer: {kt_loss: [rmse, mse], kt_init: ~, kt_epochs: [0.5]}")
    lines = tune(Tuning(plan, 2, space), Path("out"), jobs=2)
    assert [line["status"] for line in lines] == ["ok"] * 4, lines
    assert not [path for path in Path("out/runs").rglob("*.pth")]
    records = compare(tuned_plan(Path("out"), Plan([], [], [1], "")), Path("out2"), jobs=2)
    assert [record["status"] for record in records] == ["ok"] * 2
    assert all("recall@5" in record["test"] for record in records)
