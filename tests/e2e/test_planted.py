"""Planted knowledge is found, and knowledge that is not there is not.

The base arm has the weight decay and the number of epochs that suit it best on these data, out of
seven (0 to 0.03) and three (5, 20, 40); EASE's has the best ridge of four (1 to 100). All other
arms take the same, untuned.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recbole_llmkt.config import Config
from recbole_llmkt.experiment.report.significance import Verdict, compare_arms, verdicts
from recbole_llmkt.experiment.report.statistics import estimate
from recbole_llmkt.experiment.runs.records import RunRecord
from recbole_llmkt.quick_start import train
from recbole_llmkt.training.result import Result
from tests.planted import settings, write_planted

BPR: dict[str, Any] = {"model": "BPR", "weight_decay": 1e-3}
LIGHTGCN = {"model": "LightGCN", "n_layers": 2, "reg_weight": 1e-3}
LOSS = {"kt_entity": "both", "kt_weight": 0.6}
START = {"kt_entity": "both", "kt_weight": 0.0, "kt_init": "targets"}
NEIGHBOURS = {"kt_entity": "both", "kt_weight": 0.0, "kt_hybrid": "neighbours"}
EASE: dict[str, Any] = {"model": "EASE", "reg_weight": 1.0}
FAST = {
    "loss": (BPR, LOSS),
    "neighbours": (BPR, NEIGHBOURS),
    "drawn": (EASE, {"kt_closed_form": "drawn", "kt_closed_form_weight": 100.0}),
    "rows": (EASE, {"kt_closed_form": "rows", "kt_closed_form_weight": 100.0}),
    "ItemKNN": ({"model": "ItemKNN"}, {}),
}


@dataclass(frozen=True)
class Comparison:
    """What the trainings of three arms over some seeds amount to.

    Attributes
    ----------
    verdict : Verdict
        On the arm kt.
    scores : dict of str to list of float
        NDCG@10 of the test part, by arm.
    """

    verdict: Verdict
    scores: dict[str, list[float]]

    def mean(self, arm: str) -> float:
        return sum(self.scores[arm]) / len(self.scores[arm])


class Worlds:
    """Data drawn anew for each seed, with or without knowledge, and what was trained on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._results: dict[str, Result] = {}

    def compare(
        self, informed: bool, model: dict[str, Any], kt: dict[str, Any], seeds: int = 3
    ) -> Comparison:
        """Train base, kt and its control in a world for each seed."""
        arms = {
            "base": {"kt_enabled": False},
            "kt": kt,
            "shuffled": {**kt, "kt_control": "shuffled"},
        }
        records, users = [], {}
        scores: dict[str, list[float]] = {arm: [] for arm in arms}
        for seed in range(seeds):
            data = self._data(seed, informed)
            for arm, keys in arms.items():
                values = settings(data, seed=seed, **{**model, **keys})
                result = self._train(values)
                test = result["test_result"]
                name = values["model"]
                records.append(
                    RunRecord(name, arm, seed, "planted", "", test=test, settings=values)
                )
                users[name, arm, seed] = result["users"]
                scores[arm].append(test["ndcg@10"])
        (verdict,) = verdicts(records, compare_arms(records, users))
        return Comparison(verdict, scores)

    def _data(self, seed: int, informed: bool) -> Path:
        data = self.folder / f"{'informed' if informed else 'noise'}-{seed}"
        if not data.exists():
            write_planted(data, seed, informed)
        return data

    def _train(self, values: dict[str, Any]) -> Result:
        """Train, but a model without profiles once a world only."""
        key = repr(values)
        if key not in self._results:
            keys = dict(values)
            config = Config(keys.pop("model"), "planted", config_dict=keys, command_line=[])
            result = train(config, saved=False, verbose=False)
            if values.get("kt_enabled", True):
                return result
            self._results[key] = result
        return self._results[key]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    return Worlds(tmp_path_factory.mktemp("worlds"))


def check_win(comparison: Comparison) -> None:
    assert comparison.verdict.outcome == "win", comparison
    gains = [
        score - other
        for score, other in zip(comparison.scores["shuffled"], comparison.scores["base"])
    ]
    assert estimate(gains).low <= 0.0, comparison  # the control has nothing to win by
    assert comparison.mean("kt") > 1.3 * comparison.mean("base"), comparison


@pytest.mark.parametrize("way", FAST)
def test_knowledge_that_decides_the_test_wins_and_its_control_does_not(worlds, way):
    check_win(worlds.compare(True, *FAST[way]))


@pytest.mark.parametrize("way", FAST)
def test_profiles_that_are_noise_do_not_win(worlds, way):
    comparison = worlds.compare(False, *FAST[way])
    assert comparison.verdict.outcome in ("no win", "worse"), comparison
    assert comparison.mean("kt") < 1.15 * comparison.mean("base"), comparison


WAYS = {
    "start": (BPR, START),
    "cosine": (BPR, {**LOSS, "kt_loss": "cosine"}),
    "gram": (BPR, {**LOSS, "kt_loss": "gram"}),
    "infonce": (
        BPR,
        {**LOSS, "kt_loss": "infonce", "kt_projector": "mlp", "kt_projector_dim": 64},
    ),
    "softrank": (
        BPR,
        {"kt_loss": "softrank", "kt_transform": "none", "kt_projector": "linear"},
    ),
    "generative": (
        LIGHTGCN,
        {
            "kt_loss": "generative",
            "kt_projector": "mlp",
            "kt_projector_dim": 64,
            "kt_weight": 0.3,
        },
    ),
    "loss_ratio": (BPR, {"kt_balance": "loss_ratio"}),
    "umap": (BPR, {**LOSS, "kt_transform": "umap"}),
    "LightGCN": (LIGHTGCN, LOSS),
    "NeuMF": (
        {
            "model": "NeuMF",
            "mlp_hidden_size": [32, 16],
            "mf_embedding_size": 16,
            "mlp_embedding_size": 16,
            "dropout_prob": 0.0,
            "weight_decay": 1e-4,
        },
        LOSS,
    ),
    "SimpleX": ({"model": "SimpleX", "reg_weight": 1e-4}, START),
    "linear": (BPR, {"kt_entity": "both", "kt_weight": 0.0, "kt_hybrid": "linear"}),
    "LightGCN neighbours": (LIGHTGCN, NEIGHBOURS),
    "ADMMSLIM": (
        {"model": "ADMMSLIM", "lambda1": 0.01, "lambda2": 10.0, "rho": 100.0},
        {"kt_closed_form_weight": 100.0},
    ),
    "SLIMElastic": ({"model": "SLIMElastic", "alpha": 0.01}, {"kt_closed_form_weight": 100.0}),
    "NCEPLRec": ({"model": "NCEPLRec", "rank": 20}, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_other_losses_and_models_find_it_too(worlds, way):
    check_win(worlds.compare(True, *WAYS[way], seeds=5))


@pytest.mark.slow
def test_over_many_seeds_noise_does_not_win(worlds):
    comparison = worlds.compare(False, BPR, LOSS, seeds=20)
    assert comparison.verdict.outcome in ("no win", "worse"), comparison
    (control,) = (pair for pair in comparison.verdict.pairs if pair.rival == "shuffled")
    assert not control.proven, comparison
