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
import recbole

from recbole_llmkt.experiment.report.embedding_map import ensure_maps, read_maps
from recbole_llmkt.experiment.runs.compare import compare
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.runs.results import read_results
from recbole_llmkt.profiles.store import ProfileStore
from recbole_llmkt.utils.exceptions import ConfigError, DataError, LayerError

PLAN = Plan(["BPR"], ["base", "kt"], [1, 2], "ml-100k", overrides={"epochs": 2})


def fake_train(config, saved=True, on_epoch=None):
    """Stand in for training: the same result for the same seed, in the run's own folder."""
    for epoch in range(config["epochs"]):
        on_epoch(epoch, 0.1 * epoch)
    sys.stdout.write(f"trained in {os.getcwd()}\n")
    value = config["seed"] / 100 + (0.01 if config["kt_enabled"] else 0.0)
    return {
        "test_result": {"ndcg@10": value},
        "best_valid_result": {"ndcg@10": value},
        "transfer": {"phase_switch": 1, "terms": [], "leaks": 0} if config["kt_enabled"] else None,
    }


def failing_train(config, saved=True, on_epoch=None):
    if config["kt_enabled"] and config["seed"] == 1:
        raise LayerError("No such layer.")
    if config["kt_enabled"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return fake_train(config, saved, on_epoch)


def forbidden_train(config, saved=True, on_epoch=None):
    raise AssertionError("this run was done already")


def test_a_line_for_each_run_and_a_second_start_does_nothing(tmp_path):
    output = tmp_path / "out"
    records = compare(PLAN, output, jobs=2, train=fake_train)
    lines = (output / "results.jsonl").read_text().splitlines()
    assert len(lines) == 4
    assert [(record.arm, record.seed) for record in records] == [
        ("base", 1),
        ("kt", 1),
        ("base", 2),
        ("kt", 2),
    ]
    first = records[1]
    assert first.test == {"ndcg@10": 0.02}
    assert first.curve == [(0, 0.0), (1, 0.1)]
    assert first.epochs == 2
    assert first.transfer["phase_switch"] == 1
    assert first.versions["recbole"] == recbole.__version__
    log = (output / "runs" / "BPR-kt-1" / "output.log").read_text()
    assert str(output / "runs" / "BPR-kt-1") in log

    again = compare(PLAN, output, jobs=2, train=forbidden_train)
    assert [record.to_json() for record in again] == [record.to_json() for record in records]


def test_the_command_is_noted_in_each_line(tmp_path):
    compare(PLAN, tmp_path, jobs=2, train=fake_train, command="llmkt compare --seeds=1,2")
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert {json.loads(line)["command"] for line in lines} == {"llmkt compare --seeds=1,2"}
    assert {record.command for record in read_results(tmp_path / "results.jsonl")} == {
        "llmkt compare --seeds=1,2"
    }


def test_what_a_crash_left_is_finished(tmp_path):
    compare(PLAN, tmp_path, jobs=2, train=fake_train)
    path = tmp_path / "results.jsonl"
    complete = {record.key: record for record in read_results(path)}
    path.write_bytes(path.read_bytes()[:-30])
    compare(PLAN, tmp_path, jobs=2, train=fake_train)
    again = {record.key: record for record in read_results(path)}
    assert {key: timeless(record) for key, record in again.items()} == {
        key: timeless(record) for key, record in complete.items()
    }


def timeless(record):
    return replace(record, seconds=0, time=None)


def test_failed_runs_are_recorded_and_the_others_go_on(tmp_path):
    records = compare(PLAN, tmp_path, jobs=2, train=failing_train)
    errors = {(record.arm, record.seed): record.error for record in records}
    assert [record.arm for record in records if record.ok] == ["base", "base"]
    assert errors[("kt", 1)] == "No such layer."
    assert "killed" in errors[("kt", 2)]
    log = (tmp_path / "runs" / "BPR-kt-1" / "output.log").read_text()
    assert "Traceback" in log

    records = compare(PLAN, tmp_path, jobs=2, train=fake_train)
    assert all(record.ok for record in records)


def test_other_settings_do_not_mix(tmp_path):
    compare(PLAN, tmp_path, jobs=2, train=fake_train)
    before = (tmp_path / "results.jsonl").read_bytes()
    other = Plan(["BPR"], ["base"], [1], "ml-100k", overrides={"epochs": 3})
    with pytest.raises(DataError, match="epochs 2 -> 3"):
        compare(other, tmp_path, train=forbidden_train)
    assert (tmp_path / "results.jsonl").read_bytes() == before


def test_another_dataset_does_not_mix(tmp_path):
    compare(PLAN, tmp_path, jobs=2, train=fake_train)
    other = replace(PLAN, dataset="ml-1m")
    with pytest.raises(DataError, match="holds results on ml-100k"):
        compare(other, tmp_path, jobs=2, train=forbidden_train)


def test_other_profiles_do_not_mix(tiny, tmp_path):
    Path("tiny.yaml").write_text(json.dumps(tiny.settings(epochs=1)))
    keys = {"kt_hybrid": "linear", "kt_weight": 0}
    plan = Plan(["BPR"], ["base", "h"], [1], "tiny", ["tiny.yaml"], own_arms={"h": keys})
    records = compare(plan, tmp_path / "out", jobs=2, when_done=ensure_maps)
    assert [record.status for record in records] == ["ok", "ok"], records
    # Profiles of the recommended method are drawn, too.
    assert [drawn.entity for drawn in read_maps(tmp_path / "out")] == ["user"]
    compare(plan, tmp_path / "out", jobs=2, train=forbidden_train)
    store = ProfileStore(tiny.folder / "profiles", "user")
    with store.writing():
        store.append(replace(store.read()["u7"], text="Likes noir."))
    with pytest.raises(DataError, match=r"BPR-h-1 .* learned from user profiles that have changed"):
        compare(plan, tmp_path / "out", jobs=2, train=forbidden_train)
    later = replace(plan, arms=["kt"])  # it would stand in one table with h
    with pytest.raises(DataError, match=r"BPR-h-1 .* learned from user profiles that have changed"):
        compare(later, tmp_path / "out", jobs=2, train=forbidden_train)
    shutil.rmtree(tiny.folder / "profiles")
    compare(plan, tmp_path / "out", jobs=2, train=forbidden_train)


def test_a_bad_plan_writes_nothing(tmp_path):
    with pytest.raises(ConfigError):
        compare(Plan(["BPR"], ["none"], [1], "ml-100k"), tmp_path / "out", train=forbidden_train)
    assert not (tmp_path / "out").exists()


def test_the_output_is_a_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        compare(PLAN, tmp_path / "out", train=forbidden_train)


def slow_train(config, saved=True, on_epoch=None):
    Path("pid").write_text(str(os.getpid()))
    if config["seed"] > 1:
        time.sleep(60)
    return fake_train(config, saved, on_epoch)


KILLED = """
from pathlib import Path
from tests.experiment.runs.test_compare import PLAN, slow_train
from recbole_llmkt.experiment.runs.compare import compare
if __name__ == "__main__":
    compare(PLAN, Path("out"), jobs=2, train=slow_train)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes under /proc")
def test_a_killed_comparison_leaves_no_run_behind_and_goes_on():
    Path("killed.py").write_text(KILLED)
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen([sys.executable, "killed.py"], env=here, stderr=subprocess.DEVNULL)
    runs = [Path(f"out/runs/BPR-{arm}-2/pid") for arm in ("base", "kt")]
    _wait_until(lambda: all(path.is_file() and path.read_text() for path in runs))
    process.kill()
    process.wait()
    _wait_until(lambda: not any(Path(f"/proc/{path.read_text()}").exists() for path in runs))
    assert len(read_results(Path("out/results.jsonl"))) == 2
    assert len(compare(PLAN, Path("out"), jobs=2, train=fake_train)) == 4


def _wait_until(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
