from __future__ import annotations

import json

import pytest

from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.runs.results import ResultsWriter, read_results, run_key, split_done
from recbole_llmkt.utils.exceptions import DataError


def record(seed=1, **changes):
    values = {"model": "BPR", "arm": "base", "seed": seed, "dataset": "ml-100k"}
    return {**values, "digest": "d", "status": "ok", "settings": {}, **changes}


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(record(seed)) + "\n" for seed in (1, 2, 3)))
    return path


def test_no_file_holds_no_results(tmp_path):
    assert read_results(tmp_path / "results.jsonl") == []


def test_of_two_lines_about_a_run_the_last_counts(results):
    with ResultsWriter(results.parent) as writer:
        writer.append(record(2, status="failed", error="x"))
    found = {one["seed"]: one["status"] for one in read_results(results)}
    assert found == {1: "ok", 2: "failed", 3: "ok"}


@pytest.mark.parametrize("cut", range(2, 40, 7))
def test_a_last_line_cut_short_by_a_crash_is_dropped(results, cut, caplog):
    results.write_bytes(results.read_bytes()[:-cut])
    assert [one["seed"] for one in read_results(results)] == [1, 2]
    assert "cut short" in caplog.text
    with ResultsWriter(results.parent) as writer:
        writer.append(record(4))
    assert [one["seed"] for one in read_results(results)] == [1, 2, 4]


def test_a_whole_last_line_stays_without_its_line_break(results, caplog):
    content = results.read_bytes()
    results.write_bytes(content[:-1])
    assert [one["seed"] for one in read_results(results)] == [1, 2, 3]
    with ResultsWriter(results.parent) as writer:
        writer.append(record(4))
    assert [one["seed"] for one in read_results(results)] == [1, 2, 3, 4]
    assert results.read_bytes().startswith(content)
    assert caplog.text == ""


@pytest.mark.parametrize("line", ["{broken", "[1, 2]", '{"model": "BPR"}', "\x00\x00"])
def test_an_unreadable_line_in_the_middle_is_named_with_its_mend(results, line):
    lines = results.read_text().splitlines()
    results.write_text("\n".join([lines[0], line, lines[2]]) + "\n")
    with pytest.raises(DataError, match=r"results\.jsonl, line 2.*Delete line 2"):
        read_results(results)


def test_only_one_process_writes(tmp_path):
    message = "Another comparison"
    with ResultsWriter(tmp_path), pytest.raises(DataError, match=message), ResultsWriter(tmp_path):
        pass
    with ResultsWriter(tmp_path):  # the lock is free again
        pass


def test_done_runs_are_told_from_those_that_remain():
    runs = Plan(["BPR"], ["base"], [1, 2, 3], "ml-100k").runs()
    records = [record(1, digest=runs[0].digest), record(2, digest=runs[1].digest, status="failed")]
    remaining, done = split_done(runs, records)
    assert [run.seed for run in remaining] == [2, 3]
    assert done == records[:1]
    assert runs[0].key == run_key(records[0])


def test_results_of_other_settings_are_refused_by_name():
    old = Plan(["BPR"], ["base"], [1], "ml-100k", overrides={"epochs": 4}).runs()[0]
    new = Plan(["BPR"], ["base"], [1], "ml-100k", overrides={"epochs": 5}).runs()
    stored = record(1, digest=old.digest, settings=dict(old.settings))
    with pytest.raises(DataError, match=r"BPR-base-1 .*epochs 4 -> 5.*another --output"):
        split_done(new, [stored])


def test_a_line_from_before_a_key_existed_still_counts():
    (run,) = Plan(["BPR"], ["kt"], [1], "ml-100k").runs()
    settings = {key: value for key, value in run.settings.items() if key != "kt_init"}
    older = record(1, arm="kt", digest="of another rule", settings=settings)
    assert split_done([run], [older]) == ([], [older])
    (other,) = Plan(["BPR"], ["kt"], [1], "ml-100k", overrides={"kt_init": "targets"}).runs()
    with pytest.raises(DataError, match=r"\(kt_init None -> 'targets'\)"):
        split_done([other], [older])


def test_a_default_that_moved_is_another_setting():
    (run,) = Plan(["BPR"], ["kt"], [1], "ml-100k").runs()
    older = record(1, arm="kt", digest=run.digest, settings={**run.settings, "kt_weight": 0.4})
    with pytest.raises(DataError, match=r"kt_weight 0\.4 -> 0\.5"):
        split_done([run], [older])
