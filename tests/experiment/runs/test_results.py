from __future__ import annotations

import json

import pytest

from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.runs.results import ResultsWriter, read_results, split_done
from recbole_llmkt.utils.exceptions import DataError
from tests.experiment.fake_runs import as_record, winner


def line(seed=1, **changes):
    values = {"model": "BPR", "arm": "base", "seed": seed, "dataset": "ml-100k"}
    return {**values, "digest": "d", "status": "ok", "settings": {}, **changes}


def record(seed=1, **changes):
    return as_record(line(seed, **changes))


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(line(seed)) + "\n" for seed in (1, 2, 3)))
    return path


def test_no_file_holds_no_results(tmp_path):
    assert read_results(tmp_path / "results.jsonl") == []


def test_of_two_lines_about_a_run_the_last_counts(results):
    with ResultsWriter(results.parent) as writer:
        writer.append(record(2, status="failed", error="x"))
    statuses = {record.seed: record.status for record in read_results(results)}
    assert statuses == {1: "ok", 2: "failed", 3: "ok"}


@pytest.mark.parametrize("cut", range(2, 40, 7))
def test_a_last_line_cut_off_by_a_crash_is_dropped(results, cut, caplog):
    results.write_bytes(results.read_bytes()[:-cut])
    assert [record.seed for record in read_results(results)] == [1, 2]
    assert "cut off" in caplog.text
    with ResultsWriter(results.parent) as writer:
        writer.append(record(4))
    assert [record.seed for record in read_results(results)] == [1, 2, 4]


def test_a_whole_last_line_stays_without_its_line_break(results, caplog):
    content = results.read_bytes()
    results.write_bytes(content[:-1])
    assert [record.seed for record in read_results(results)] == [1, 2, 3]
    with ResultsWriter(results.parent) as writer:
        writer.append(record(4))
    assert [record.seed for record in read_results(results)] == [1, 2, 3, 4]
    assert results.read_bytes().startswith(content)
    assert caplog.text == ""


WRONG = {
    "no JSON": ("{broken", "not readable as JSON"),
    "a list": ("[1, 2]", "not a JSON object"),
    "too few fields": ('{"model": "BPR"}', "the field 'arm' is missing"),
    "zeros": ("\x00\x00", "not readable as JSON"),
    "a seed as text": (json.dumps(line("1")), "'seed' must be an integer, not \"1\""),
    "an unknown status": (json.dumps(line(status="done")), "'status' must be ok or failed"),
    "a metric as text": (
        json.dumps(line(test={"ndcg@10": "0.1"})),
        "'test.ndcg@10' must be a number",
    ),
    "settings as a list": (json.dumps(line(settings=["a"])), "'settings' must be an object"),
    "no time": (json.dumps(line(time="yesterday")), "'time' must be a date and time"),
    "half a point": (json.dumps(line(curve=[[1]])), "'curve' must hold pairs"),
    "tuned without keys": (json.dumps(line(tuned={"trial": 1})), "'tuned': the field 'keys'"),
    "a part of a slice": (json.dumps(line(slices=[{"slice": 1}])), "'slices[0]': 'slice' must be"),
    "coverage as text": (
        json.dumps(line(transfer={"init": [{"table": "t", "coverage": "all"}]})),
        "'coverage' must be a number",
    ),
    "tables as text": (
        json.dumps(line(transfer={"cold_start": [{"tables": "t"}]})),
        "'tables' must be a list",
    ),
    "texts of another method": (
        json.dumps(line(transfer={"mine": [{"entity": "user", "texts": 3}]})),
        "'texts' must be text",
    ),
    "transfer as text": (json.dumps(line(transfer="kt")), "'transfer' must be an object"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_line_in_the_middle_is_named_with_its_fix(results, case):
    wrong, problem = WRONG[case]
    lines = results.read_text().splitlines()
    results.write_text("\n".join([lines[0], wrong, lines[2]]) + "\n")
    with pytest.raises(DataError, match=r"results\.jsonl, line 2.*Delete line 2") as error:
        read_results(results)
    assert problem in str(error.value)


def test_a_record_is_written_as_it_is_read():
    part = {"slice": "history", "part": "p", "bounds": "b", "users": 3, "rows": 3}
    values = line(
        seconds=1.5,
        time="2024-05-01T12:00:00+00:00",
        arm_keys=["kt_weight"],
        data="d",
        versions={"torch": "2"},
        tuned={**vars(winner({"kt_weight": 0.1}))},
        test={"ndcg@10": 0.1},
        valid={"ndcg@10": 0.2},
        epochs=4,
        curve=[[0, 0.1], [3, 0.2]],
        transfer={"terms": []},
        slices=[{**part, "metrics": {"ndcg@10": 0.1}}],
    )
    assert as_record(values).to_json() == values
    failed = line(status="failed", seconds=1.5, data="", versions={}, error="no memory")
    assert as_record(failed).to_json() == failed


def test_only_one_process_writes(tmp_path):
    message = "Another process is writing .*--output"
    with ResultsWriter(tmp_path), pytest.raises(DataError, match=message), ResultsWriter(tmp_path):
        pass
    with ResultsWriter(tmp_path):  # the lock is free again
        pass


def test_done_runs_are_separated_from_those_that_remain():
    runs = Plan(["BPR"], ["base"], [1, 2, 3], "ml-100k").runs()
    records = [record(1, digest=runs[0].digest), record(2, digest=runs[1].digest, status="failed")]
    remaining, done = split_done(runs, records)
    assert [run.seed for run in remaining] == [2, 3]
    assert done == records[:1]
    assert runs[0].key == records[0].key and runs[0].name == records[0].name


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
