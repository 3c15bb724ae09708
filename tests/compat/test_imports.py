"""RecBole's models are imported with nothing else changed, and any Ray Tune is reported to."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from recbole_llmkt.compat import importing_models, report_trial
from recbole_llmkt.registry import get_model


def test_models_import_without_kmeans_pytorch(monkeypatch):
    names = [name for name in sys.modules if name.startswith("recbole.model.general")]
    for name in [*names, "kmeans_pytorch"]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert get_model("BPR").__name__ == "BPR"
    assert get_model("recbole.model.general_recommender.LDiffRec").__name__ == "LDiffRec"
    assert "kmeans_pytorch" not in sys.modules or sys.modules["kmeans_pytorch"].__spec__


def test_anomaly_detection_stays_as_it_was():
    with importing_models():
        torch.autograd.set_detect_anomaly(True)
    assert not torch.is_anomaly_enabled()


class OldTune:
    """Ray 2.6.3's."""

    def __init__(self, runs_trial):
        self.runs_trial, self.reported = runs_trial, []

    def is_session_enabled(self):
        return self.runs_trial

    def report(self, **metrics):
        self.reported.append(metrics)


class NewTune:
    """Today's."""

    def __init__(self, runs_trial):
        self.trial, self.reported = "t1" if runs_trial else None, []

    def get_context(self):
        return SimpleNamespace(get_trial_id=lambda: self.trial)

    def report(self, metrics):
        self.reported.append(metrics)


@pytest.mark.parametrize("tune", [OldTune, NewTune])
@pytest.mark.parametrize("runs_trial", [True, False])
def test_a_trial_of_any_ray_is_reported_to(monkeypatch, tune, runs_trial):
    module = tune(runs_trial)
    monkeypatch.setitem(sys.modules, "ray.tune", module)
    report_trial({"ndcg@10": 0.5})
    assert module.reported == ([{"ndcg@10": 0.5}] if runs_trial else [])
