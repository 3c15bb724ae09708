"""The server of the runs' processes: the data that they share."""

from __future__ import annotations

import json
import os
from multiprocessing import forkserver

import pytest

from recbole_llmkt.datasets import sharing
from recbole_llmkt.experiment.runs import pool
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.runs.pool import SHARED_VARIABLE, Ended, run_all


def shared_train(config, saved=True, on_epoch=None):
    """Stand in for training: tell whether the server has the run's data."""
    there = sharing.shared_dataset(config) is not None
    return {"best_valid_score": float(there), "best_valid_result": {}, "test_result": None}


def plan(tiny, models):
    keys = tiny.settings(profile_api_base="http://name:secret@host")
    return Plan(models, ["base"], [1], tiny.name, overrides=keys)


@pytest.fixture
def fresh_server():
    """Stop the server that earlier tests have started, and the one of this test."""
    forkserver._forkserver._stop()
    yield
    forkserver._forkserver._stop()


def test_runs_find_the_data_of_the_server(tiny, tmp_path, fresh_server):
    runs = plan(tiny, ["BPR", "SASRec"]).runs()
    ended = [
        event for event in run_all(runs, tmp_path, 1, shared_train) if isinstance(event, Ended)
    ]
    assert [(event.error, event.result and event.result.score) for event in ended] == [("", 1)] * 2


def test_the_server_is_told_no_secrets(tiny):
    runs = plan(tiny, ["BPR", "NeuMF"]).runs()
    with pool._sharing(runs):
        text = os.environ[SHARED_VARIABLE]
    assert SHARED_VARIABLE not in os.environ
    assert {settings["model"] for settings in json.loads(text)} == {"BPR", "NeuMF"}
    assert "secret" not in text and "profile_" not in text


def test_settings_that_are_too_long_are_not_shared(tiny, monkeypatch):
    monkeypatch.setattr(pool, "_LONGEST", 10)
    monkeypatch.setenv(SHARED_VARIABLE, "no JSON")
    with pool._sharing(plan(tiny, ["BPR"]).runs()):
        assert os.environ[SHARED_VARIABLE] == "[]"
