"""What the tests share: a plan, stand-ins for training, records."""

from __future__ import annotations

import math
import time

from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.runs.pool import (
    Ended,
    Started,
    Validated,
    error_message,
    run_all,
    train_run,
)
from recbole_llmkt.experiment.runs.records import RunRecord, Winner
from recbole_llmkt.utils.jsonl import Fields

PLAN = Plan(["BPR"], ["base", "kt"], [7], "ml-100k", overrides={"epochs": 2})
SHARED = ["learning_rate", "weight_decay"]


def in_process(train):
    """Mark a stand-in that needs no process: hundreds of runs then take no time."""
    train.in_process = True
    return train


def run_quickly(runs, folder, jobs, train):
    """Do as `run_all` does, within this process for stand-ins marked so."""
    if not getattr(train, "in_process", False):
        yield from run_all(runs, folder, jobs, train)
        return
    for run in runs:
        yield Started(run)
        begin, scores = time.monotonic(), []
        try:
            result = train_run(
                run, run.config(), train, lambda *score, into=scores: into.append(score)
            )
            ended = {"result": result}
        except Exception as error:
            ended = {"error": error_message(error)}
        yield from (Validated(run, *score) for score in scores)
        yield Ended(run, time.monotonic() - begin, **ended)


@in_process
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


@in_process
def forbidden_train(config, saved=True, on_epoch=None):
    raise AssertionError("this trial was done already")


def by_arm(trials):
    return {
        arm: [trial for trial in trials if trial.arm == arm]
        for arm in dict.fromkeys(trial.arm for trial in trials)
    }


def as_record(values):
    """Read a line of results.jsonl."""
    return RunRecord.read(Fields({"dataset": "ml-100k", "digest": "d", **values}, "a test", ""))


def winner(keys=(), **changes):
    values = {"trial": 0, "metric": "NDCG@10", "score": 0.5, "trials": 8, "failed": 0}
    return Winner(**{"keys": dict(keys), **values, "seed": 7, "space": "feedbeef", **changes})
