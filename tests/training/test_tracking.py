from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from recbole_llmkt.quick_start import train
from recbole_llmkt.utils.exceptions import ConfigError


class FakeWandb(SimpleNamespace):
    """Remember what is logged, as the package wandb takes it."""

    def __init__(self):
        super().__init__(run=None, runs=[], finished=0)

    def init(self, project, config, name=None):
        self.run = SimpleNamespace(project=project, config=config, name=name, summary={}, rows=[])
        self.runs.append(self.run)

    def log(self, metrics, commit=True):
        self.run.rows.append(metrics)
        self.run.summary.update(metrics)

    def define_metric(self, name, step_metric):
        pass

    def finish(self):
        self.finished += 1
        self.run = None


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_each_run_is_one_of_its_own_and_shows_its_best(tiny, wandb):
    keys = {
        "log_wandb": True,
        "epochs": 8,
        "learning_rate": 0.1,
        "metric_decimal_place": 8,
        "kt_slices": ["history"],
    }
    results = [
        train(tiny.config("BPR", kt_enabled=enabled, **keys), verbose=False)
        for enabled in (False, True)
    ]
    assert len(wandb.runs) == wandb.finished == 2 and wandb.run is None
    is_last: list[bool] = []
    for run, result in zip(wandb.runs, results):
        validations = [row["valid/ndcg@5"] for row in run.rows if "valid/ndcg@5" in row]
        assert len(validations) == 8
        best = result["best_valid_result"]["ndcg@5"]
        assert run.summary["valid/ndcg@5"] == best == max(validations)
        is_last.append(best == validations[-1])
        assert run.summary["eval/ndcg@5"] == result["test_result"]["ndcg@5"]
        assert run.summary["slices/shortest_histories/ndcg@5"] > 0
        assert run.config["learning_rate"] == 0.1 and run.config["model"] == "BPR"
    assert not all(is_last)  # or this could not fail
    assert [run.config["kt_enabled"] for run in wandb.runs] == [False, True]


def test_a_run_that_is_open_stays_open(tiny, wandb):
    wandb.init("mine", {})
    train(tiny.config("BPR", kt_enabled=False, log_wandb=True), saved=False, verbose=False)
    assert len(wandb.runs) == 1 and wandb.finished == 0
    assert wandb.run.project == "mine" and "eval/ndcg@5" in wandb.run.summary


def test_a_failed_run_is_closed(tiny, wandb):
    config = tiny.config("BPR", log_wandb=True, kt_layer="nowhere")
    with pytest.raises(ValueError, match="nowhere"):
        train(config, verbose=False)
    assert wandb.finished == len(wandb.runs) == 1


def test_nothing_is_logged_unasked(tiny, wandb):
    train(tiny.config("BPR", kt_enabled=False), saved=False, verbose=False)
    assert wandb.runs == []


def test_a_missing_package_is_one_clear_error(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        train(tiny.config("BPR", log_wandb=True), verbose=False)
