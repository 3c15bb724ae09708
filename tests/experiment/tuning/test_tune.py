"""Trials: what they try, how they are resumed, and what they never see."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from recbole_llmkt.experiment.runs.compare import compare
from recbole_llmkt.experiment.runs.consistency import check_run_profiles
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.tuning.finals import Finals
from recbole_llmkt.experiment.tuning.trials import read_finals, read_trials
from recbole_llmkt.experiment.tuning.tune import Tuning, tune
from recbole_llmkt.experiment.tuning.winners import tuned_plan
from recbole_llmkt.utils.exceptions import ConfigError, DataError, LeakError
from tests.experiment.fake_runs import PLAN, SHARED, by_arm, fake_train, forbidden_train, in_process


def test_all_arms_start_as_configured_and_share_their_first_points(study):
    _, lines = study
    base, kt = by_arm(lines).values()
    assert len(base) == len(kt) == 12
    assert base[0].keys == kt[0].keys == {}
    for mine, other in zip(base[1:11], kt[1:11]):
        assert mine.keys == {key: other.keys[key] for key in SHARED}
        assert {*other.keys} > {*SHARED}
    later = [[trial.keys["learning_rate"] for trial in arm[11:]] for arm in (base, kt)]
    assert later[0] != later[1]


def test_the_search_gets_better_and_no_line_has_a_test_figure(study):
    folder, lines = study
    best = [max(trial.score for trial in arm if trial.ok) for arm in by_arm(lines).values()]
    assert min(best) > 0.6
    assert "test" not in (folder / "trials.jsonl").read_text()
    assert lines == read_trials(folder)
    assert {trial.outcome.epochs for trial in lines if trial.ok} == {1}


def test_a_second_start_does_nothing_and_more_trials_resume(study):
    folder, lines = study
    again = tune(Tuning(PLAN, 12), folder, jobs=1, train=forbidden_train)
    assert again == lines
    (folder / "trials.jsonl").unlink()
    more = tune(Tuning(PLAN, 13), folder, jobs=1, train=fake_train)
    assert len(more) == 26
    assert [trial for trial in more if trial.trial < 12] == lines


def test_profiles_that_may_not_be_learned_from_stop_a_study_before_its_trials(tiny, tmp_path):
    other = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user", "mode": "full"}
    keys = tiny.settings(epochs=1, kt_entity="user", eval_args=other)
    plan = Plan(["BPR"], ["base", "kt"], [7], "tiny", overrides=keys)
    with pytest.raises(LeakError, match="not written from this run's training interactions"):
        tune(Tuning(plan, 2), tmp_path / "study")
    assert read_trials(tmp_path / "study") == []
    items = replace(plan, overrides={**keys, "kt_entity": "item"})
    check_run_profiles(items.runs())


def fragile_train(config, saved=True, on_epoch=None):
    if config["kt_enabled"]:
        os.kill(os.getpid(), signal.SIGKILL)
    result = fake_train(config, saved, on_epoch)
    return {**result, "best_valid_score": float("nan")}


def test_failed_trials_are_recorded_with_their_reason(tmp_path):
    lines = tune(Tuning(PLAN, 1), tmp_path, jobs=2, train=fragile_train)
    base, kt = lines
    assert base.outcome.error == "the validation score is nan"
    assert "killed" in kt.outcome.error
    assert tune(Tuning(PLAN, 1), tmp_path, train=forbidden_train) == lines
    with pytest.raises(DataError, match="BPR, arm base: no trial succeeded"):
        tuned_plan(tmp_path, Plan([], [], [1], ""))


@in_process
def broken_train(config, saved=True, on_epoch=None):
    raise DataError("no data today")


def test_a_study_without_any_score_ends_all_the_same(tmp_path):
    lines = tune(Tuning(PLAN, 4), tmp_path, jobs=1, train=broken_train)
    assert [trial.outcome.error for trial in lines] == ["no data today"] * 8


def test_what_failed_is_tried_again_on_request(tmp_path):
    finals = Finals(1)
    tune(Tuning(PLAN, 2, finals=finals), tmp_path, jobs=1, train=broken_train)
    with pytest.raises(DataError, match=r"no trial succeeded.* with --retry-failed"):
        tuned_plan(tmp_path, Plan([], [], [1], ""))
    tune(Tuning(PLAN, 2, finals=finals), tmp_path, jobs=1, train=forbidden_train)
    again = Tuning(PLAN, 2, finals=finals, retry_failed=True)
    lines = tune(again, tmp_path, jobs=1, train=broken_later)
    assert all(trial.ok for trial in lines) and len(lines) == 4
    assert [run.ok for run in read_finals(tmp_path)] == [False] * 4
    with pytest.raises(DataError, match=r"every finalist failed.* with --retry-failed"):
        tuned_plan(tmp_path, Plan([], [], [1], ""))
    assert tune(again, tmp_path, jobs=1, train=fake_train) == lines
    tune(again, tmp_path, jobs=1, train=forbidden_train)
    assert len(tuned_plan(tmp_path, Plan([], [], [1], "")).tuned) == 2


@in_process
def broken_later(config, saved=True, on_epoch=None):
    return (fake_train if config["seed"] == 7 else broken_train)(config, saved, on_epoch)


def test_an_own_arm_and_its_control_search_what_it_leaves_open(tmp_path):
    own = {"init": {"kt_init": "targets", "kt_weight": 0.0}}
    arms = ["init", "init+shuffled"]
    plan = Plan(["BPR"], arms, [7], "ml-100k", overrides={"epochs": 1}, own_arms=own)
    lines = by_arm(tune(Tuning(plan, 2), tmp_path, jobs=1, train=fake_train))
    assert [trial.keys for trial in lines["init"]] == [
        trial.keys for trial in lines["init+shuffled"]
    ]
    assert not {"kt_init", "kt_weight"} & {*lines["init"][1].keys}
    init, control = tuned_plan(tmp_path, Plan([], [], [1], "")).runs()
    assert (init.arm, init.settings["kt_control"]) == ("init", "none")
    assert (control.arm, control.settings["kt_control"]) == ("init+shuffled", "shuffled")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overrides": {"epochs": 3}}, r"another epochs of BPR/base \(2 -> 3\)"),
        ({"seeds": [8]}, "another seed"),
        ({"overrides": {"epochs": 2, "learning_rate": 0.1}}, "another learning_rate of BPR/base"),
        # Of arms that come later, too: the table is one.
        (
            {"arms": ["init"], "own_arms": {"init": {"kt_init": "targets"}}, "overrides": {}},
            "another epochs of BPR/base",
        ),
    ],
)
def test_a_folder_is_resumed_only_with_its_settings(study, changes, message):
    folder, _ = study
    values = {"models": ["BPR"], "arms": ["base"], "seeds": [7], "dataset": "ml-100k"}
    plan = Plan(**{**values, "overrides": {"epochs": 2}, **changes})
    before = {path: path.read_bytes() for path in folder.glob("*.js*")}
    with pytest.raises(DataError, match=message):
        tune(Tuning(plan, 2), folder, train=forbidden_train)
    assert {path: path.read_bytes() for path in folder.glob("*.js*")} == before


def test_a_study_resumes_elsewhere(tiny, tmp_path):
    """On another machine files and devices are others; what they say is not."""
    preset = tmp_path / "preset.yaml"
    preset.write_text("epochs: 2")
    keys = tiny.settings(kt_preset=str(preset))
    del keys["epochs"]
    file = tmp_path / "settings.yaml"
    file.write_text("embedding_size: 8")
    plan = Plan(["BPR"], ["base"], [7], "tiny", [str(file)], keys)
    tune(Tuning(plan, 1), tmp_path / "study", jobs=1, train=fake_train)
    there = tmp_path / "there"
    shutil.move(tiny.data_path, there / "data")
    shutil.move(preset, there / "preset.yaml")
    moved = {"data_path": str(there / "data"), "kt_preset": str(there / "preset.yaml")}
    again = tuned_plan(tmp_path / "study", Plan([], [], [1], "", overrides=moved)).runs()
    assert again[0].settings["epochs"] == 2
    shutil.move(file, there / "settings.yaml")
    with pytest.raises(ConfigError, match=r"settings\.yaml"):
        tuned_plan(tmp_path / "study", Plan([], [], [1], "", overrides=moved))
    files, keys = [str(there / "settings.yaml")], {**keys, **moved, "show_progress": False}
    plan = replace(plan, config_files=files, overrides=keys)
    lines = tune(Tuning(plan, 2), tmp_path / "study", jobs=1, train=fake_train)
    assert [trial.trial for trial in lines] == [0, 1]
    (final,) = tuned_plan(tmp_path / "study", Plan([], [], [1], "")).runs()
    assert final.settings["embedding_size"] == 8
    (there / "preset.yaml").write_text("epochs: 3")
    with pytest.raises(DataError, match=r"another epochs of BPR/base \(2 -> 3\)"):
        tune(Tuning(plan, 3), tmp_path / "study", jobs=1, train=forbidden_train)
    (there / "preset.yaml").write_text("epochs: 2")
    with open(there / "data" / "tiny" / "tiny.inter", "a") as file:
        file.write("1\t1\t5\t1\n")
    later = replace(plan, arms=["init"], own_arms={"init": {"kt_init": "targets"}})
    with pytest.raises(DataError, match="another digest of the dataset's files"):
        tune(Tuning(later, 2), tmp_path / "study", jobs=1, train=forbidden_train)


def test_a_space_that_changed_is_named(study, tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("shared: {weight_decay: ~}")
    with pytest.raises(DataError, match="another search space of BPR/base"):
        tune(Tuning(PLAN, 2, path), study[0], train=forbidden_train)


def test_keys_that_others_search_place_the_points_too(study, tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("transfer: {kt_temperature: [0.1, 0.2]}")
    base = replace(PLAN, arms=["base"])
    with pytest.raises(DataError, match="another list of keys that the arms of BPR search"):
        tune(Tuning(base, 13, path), study[0], train=forbidden_train)


def test_keys_of_the_command_line_are_held(tmp_path):
    held = {"learning_rate": 0.01, "weight_decay": 0.0}
    plan = Plan(["BPR"], ["base"], [7], "ml-100k", overrides=held)
    with pytest.raises(ConfigError, match="nothing is left to tune"):
        tune(Tuning(plan, 2), tmp_path / "out", train=forbidden_train)


def test_without_optuna_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "recbole_llmkt.experiment.tuning.study", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'recbole_llmkt\[tune\]'"):
        tune(Tuning(PLAN, 2), tmp_path / "out", train=forbidden_train)


# ---- interrupted ------------------------------------------------------------------------------


def slow_train(config, saved=True, on_epoch=None):
    Path("pid").write_text(str(os.getpid()))
    if config["learning_rate"] != 0.001:
        time.sleep(60)
    return fake_train(config, saved, on_epoch)


KILLED = """
import multiprocessing
from pathlib import Path
from tests.experiment.tuning.test_tune import PLAN, slow_train
from recbole_llmkt.experiment.runs import pool
from recbole_llmkt.experiment.tuning.tune import Tuning, tune
# A server of clean processes imports everything once more; test_compare.py kills one that has it.
pool._context = lambda: multiprocessing.get_context("fork")
if __name__ == "__main__":
    tune(Tuning(PLAN, 4), Path("out"), jobs=2, train=slow_train)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes under /proc")
def test_a_killed_study_resumes_as_if_it_never_stopped(tmp_path):
    Path("killed.py").write_text(KILLED)
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
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
    assert [trial.keys for trial in lines] == [trial.keys for trial in whole]


def _wait_until(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


@in_process
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
    keys = [trial.keys for trial in lines if trial.trial]
    assert len({point["embedding_size"] for point in keys}) > 5
    assert {point["kt_projector_dim"] for point in keys} == {None, 32}


def test_an_arm_added_with_more_trials_tries_the_points_of_the_others(tmp_path):
    base = Plan(["BPR"], ["base"], [7], "ml-100k", overrides={"epochs": 2})
    first = tune(Tuning(base, 4), tmp_path, jobs=1, train=fake_train)
    later = tune(Tuning(PLAN, 30), tmp_path, jobs=2, train=fake_train)
    rates = {
        arm: [trial.keys.get("learning_rate") for trial in lines][:11]
        for arm, lines in by_arm(later).items()
    }
    assert rates["base"] == rates["kt"]
    assert rates["base"][:4] == [trial.keys.get("learning_rate") for trial in first]
    assert json.loads((tmp_path / "tuning.json").read_text())["points"] == 10


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
    assert [trial.ok for trial in lines] == [True] * 4, lines
    assert not [path for path in Path("out/runs").rglob("*.pth")]
    records = compare(tuned_plan(Path("out"), Plan([], [], [1], "")), Path("out2"), jobs=2)
    assert [record.ok for record in records] == [True] * 2
    assert all("recall@5" in record.test for record in records)
