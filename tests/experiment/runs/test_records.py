"""A line of ``results.jsonl``, read and written."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from recbole_llmkt.experiment.runs.records import RunRecord, of_arm
from recbole_llmkt.utils.exceptions import DataError
from recbole_llmkt.utils.jsonl import Fields
from tests.experiment.fake_runs import winner

LINE = {
    "model": "BPR",
    "arm": "kt",
    "seed": 1,
    "dataset": "ml-100k",
    "digest": "0123456789abcdef",
    "status": "ok",
    "seconds": 2.5,
    "time": "2024-05-01T12:00:00+00:00",
    "settings": {"epochs": 4},
    "arm_keys": ["kt_enabled"],
    "data": "feed",
    "versions": {"torch": "2.0"},
    "tuned": asdict(winner({"learning_rate": 0.01}, finalists=2, seeds=3)),
    "test": {"ndcg@10": 0.1},
    "valid": {"ndcg@10": 0.2},
    "epochs": 4,
    "curve": [[0, 0.1], [3, 0.2]],
    "transfer": {"terms": [{"layer": "x", "coverage": 0.5}]},
    "slices": [],
}


def read(**changes):
    return RunRecord.read(Fields({**LINE, **changes}, "line 3", "Delete it."))


def test_a_line_is_written_as_it_was_read():
    record = read()
    assert record.to_json() == LINE
    assert record.name == "BPR-kt-1"
    assert record.key == ("BPR", "kt", 1, "ml-100k")
    assert record.tuned.budget == (8, 2, 3)


def test_a_failed_run_keeps_its_error_and_no_figures():
    values = read(status="failed", error="no memory").to_json()
    assert values["error"] == "no memory"
    assert not {"test", "valid", "curve", "epochs"} & values.keys()


def test_lines_of_older_versions_lack_what_came_later():
    names = ("model", "arm", "seed", "dataset", "digest", "status")
    record = RunRecord.read(Fields({name: LINE[name] for name in names}, "line 1", ""))
    assert (record.time, record.arm_keys, record.tuned, record.transfer) == (None,) * 4
    assert record.ok
    assert "time" not in record.to_json()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": "1"}, "seed"),
        ({"status": "done"}, "status"),
        ({"time": "yesterday"}, "'time' must be a date and time, not 'yesterday'"),
        ({"curve": [[1, 2, 3]]}, "'curve' must hold pairs"),
        ({"curve": [["a", 1.0]]}, "'curve' must hold pairs"),
        ({"test": {"ndcg@10": "high"}}, "ndcg@10"),
        ({"transfer": {"init": [{"tables": [1]}]}}, "tables"),
        ({"transfer": {"terms": [{"coverage": "all"}]}}, "coverage"),
        ({"slices": [{"slice": "history"}]}, "part"),
        ({"tuned": {}}, "keys"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(changes, message):
    with pytest.raises(DataError, match="line 3") as refusal:
        read(**changes)
    assert message in str(refusal.value)


def test_records_of_an_arm():
    records = [read(), read(arm="base"), read(model="NeuMF"), read(seed=2)]
    assert [record.seed for record in of_arm(records, "BPR", "kt")] == [1, 2]
