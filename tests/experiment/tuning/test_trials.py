"""A line of ``trials.jsonl``, and what came of a run."""

from __future__ import annotations

import json
import math

import pytest

from recbole_llmkt.experiment.tuning.trials import TRIALS, TrialRecord, outcomes, read_trials
from recbole_llmkt.utils.exceptions import DataError
from tests.experiment.fake_runs import PLAN

LINE = {
    "model": "BPR",
    "arm": "kt",
    "trial": 3,
    "seed": 7,
    "dataset": "ml-100k",
    "status": "ok",
    "keys": {"b": 1, "a": [1, 2]},
    "epochs": 4,
    "seconds": 2.5,
    "texts": {"user": "feed"},
    "score": 0.25,
    "valid": {"ndcg@10": 0.25},
}


def write(folder, **changes):
    (folder / TRIALS).write_text(json.dumps({**LINE, **changes}) + "\n")


def test_a_line_is_written_as_it_was_read(tmp_path):
    assert read_trials(tmp_path) == []
    write(tmp_path)
    (record,) = read_trials(tmp_path)
    assert record.to_json() == LINE
    assert record.run_key == ("BPR", "kt", 7, "ml-100k")
    assert record.key == ("BPR", "kt", 3, '{"a": [1, 2], "b": 1}')


def test_a_failed_trial_has_an_error_and_no_score(tmp_path):
    write(tmp_path, status="failed", error="too fast")
    (record,) = read_trials(tmp_path)
    assert not record.ok
    assert record.to_json()["error"] == "too fast"
    assert "score" not in record.to_json()
    with pytest.raises(AssertionError, match="a failed trial has no score"):
        _ = record.score


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"score": None}, "score"), ({"keys": []}, "keys"), ({"status": "running"}, "status")],
)
def test_a_wrong_field_is_named(tmp_path, changes, message):
    write(tmp_path, **changes)
    with pytest.raises(DataError, match=rf"trials\.jsonl.*{message}"):
        read_trials(tmp_path)


@pytest.mark.parametrize(
    ("score", "error"),
    [(math.nan, "the validation score is nan"), (None, "the validation score is None")],
)
def test_a_run_without_a_usable_score_failed(tmp_path, score, error):
    def train(config, saved=True, on_epoch=None):
        on_epoch(0, 0.1)
        return {"best_valid_score": score, "best_valid_result": {}, "test_result": None}

    run = PLAN.runs()[0]
    ((trained, outcome),) = outcomes([run], 1, tmp_path, 1, train)
    assert trained == run
    assert (outcome.score, outcome.error) == (None, error)
    assert not TrialRecord("BPR", "base", 0, 7, "ml-100k", {}, outcome).ok
