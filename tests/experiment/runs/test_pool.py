"""The processes of a comparison: how many threads each gets, and what they send."""

from __future__ import annotations

import os

import pytest

from recbole_llmkt.experiment.runs import pool
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.runs.pool import Ended, run_all, threads_per_run

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
RUNS = Plan(["BPR"], ["base"], [1, 2], "ml-100k").runs()


def thread_train(config, saved=True, on_epoch=None):
    """Stand in for training: return how many threads torch and the other libraries have."""
    import threadpoolctl
    import torch

    pools = [entry["num_threads"] for entry in threadpoolctl.threadpool_info()]
    counts = {"torch": torch.get_num_threads(), "largest pool": max(pools)}
    return {"best_valid_score": 0.1, "best_valid_result": counts, "test_result": None}


def threads(folder, jobs):
    ended = [
        event for event in run_all(RUNS, folder, jobs, thread_train) if isinstance(event, Ended)
    ]
    assert [event.error for event in ended] == [""] * len(RUNS)
    return [event.result.valid for event in ended]


def test_the_threads_of_one_comparison_are_not_taken_for_the_users(tmp_path, monkeypatch):
    """One job gets all cores; eight jobs in the same process share them."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pool, "cores", lambda: 8)
    assert [counts["torch"] for counts in threads(tmp_path, 1)] == [8, 8]
    assert not {*VARIABLES} & {*os.environ}
    assert threads(tmp_path, 8) == [{"torch": 1, "largest pool": 1}] * 2


def test_what_the_user_set_stays(tmp_path, monkeypatch):
    for name, value in zip(VARIABLES, ("3", "2", "2")):
        monkeypatch.setenv(name, value)
    assert threads_per_run(1) == threads_per_run(8) == 3
    assert [counts["torch"] for counts in threads(tmp_path, 1)] == [3, 3]
    assert [os.environ[name] for name in VARIABLES] == ["3", "2", "2"]


def wordy_train(config, saved=True, on_epoch=None):
    return {"best_valid_score": "good", "test_result": None}


def test_a_result_of_a_wrong_type_fails_its_run_alone(tmp_path):
    errors = [
        event.error for event in run_all(RUNS, tmp_path, 2, wordy_train) if isinstance(event, Ended)
    ]
    assert len(errors) == 2
    assert all("'best_valid_score' must be a number, not \"good\"" in error for error in errors)


@pytest.mark.parametrize("jobs", [1, 3, 100])
def test_every_run_has_at_least_one_thread(jobs, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads_per_run(jobs) >= 1


def pretrained_train(config, saved=True, on_epoch=None):
    """Stand in for training: tell whether the file that the model is made from is found."""
    found = os.path.isfile(config["mf_pretrain_path"])
    return {"best_valid_score": float(found), "best_valid_result": {}, "test_result": None}


def test_files_keep_their_place_in_a_run_that_works_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mf.pth").touch()
    keys = {"mf_pretrain_path": "mf.pth"}
    (run,) = Plan(["NeuMF"], ["base"], [1], "ml-100k", overrides=keys).runs()
    (ended,) = (e for e in run_all([run], tmp_path, 1, pretrained_train) if isinstance(e, Ended))
    assert ended.error == "" and ended.result.score == 1.0
