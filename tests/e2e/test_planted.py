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
from tests.planted import settings, write_planted

BPR: dict[str, Any] = {"model": "BPR", "weight_decay": 1e-3}
LIGHTGCN = {"model": "LightGCN", "n_layers": 2, "reg_weight": 1e-3}
LOSS = {"kt_entity": "both", "kt_weight": 0.6}
START = {"kt_entity": "both", "kt_weight": 0.0, "kt_init": "targets"}
NEIGHBOURS = {"kt_entity": "both", "kt_weight": 0.0, "kt_hybrid": "neighbours"}
EASE: dict[str, Any] = {"model": "EASE", "reg_weight": 1.0}
FAST = {
    "loss": (BPR, LOSS),
    "start": (BPR, START),
    "neighbours": (BPR, NEIGHBOURS),
    "drawn": (EASE, {"kt_closed_form": "drawn", "kt_closed_form_weight": 100.0}),
    "rows": (EASE, {"kt_closed_form": "rows", "kt_closed_form_weight": 100.0}),
    "ItemKNN": ({"model": "ItemKNN"}, {}),
}


@dataclass(frozen=True)
class Found:
    """What five trainings of three arms amount to.

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


def compare(
    folder: Path, informed: bool, model: dict[str, Any], kt: dict[str, Any], seeds: int = 5
) -> Found:
    """Train base, kt and its control on data drawn anew for each seed."""
    arms = {"base": {"kt_enabled": False}, "kt": kt, "shuffled": {**kt, "kt_control": "shuffled"}}
    records, users = [], {}
    scores: dict[str, list[float]] = {arm: [] for arm in arms}
    for seed in range(seeds):
        data = folder / str(seed)
        write_planted(data, seed, informed)
        for arm, keys in arms.items():
            values = settings(data, seed=seed, **{**model, **keys})
            name = values.pop("model")
            config = Config(name, "planted", config_dict=values, command_line=[])
            result = train(config, saved=False, verbose=False)
            test = result["test_result"]
            records.append(RunRecord(name, arm, seed, "planted", "", test=test, settings=values))
            users[name, arm, seed] = result["users"]
            scores[arm].append(test["ndcg@10"])
    (verdict,) = verdicts(records, compare_arms(records, users))
    return Found(verdict, scores)


def check_found(comparison: Found) -> None:
    assert comparison.verdict.outcome == "win", comparison
    gains = [
        score - other
        for score, other in zip(comparison.scores["shuffled"], comparison.scores["base"])
    ]
    assert estimate(gains).low <= 0.0, comparison  # the control has nothing to win by
    assert comparison.mean("kt") > 1.3 * comparison.mean("base"), comparison


@pytest.mark.parametrize("way", FAST)
def test_knowledge_that_decides_the_test_wins_and_its_control_does_not(tmp_path, way):
    check_found(compare(tmp_path, True, *FAST[way]))


@pytest.mark.parametrize("way", FAST)
def test_profiles_that_are_noise_do_not_win(tmp_path, way):
    comparison = compare(tmp_path, False, *FAST[way])
    assert comparison.verdict.outcome in ("no win", "worse"), comparison
    assert comparison.mean("kt") < 1.15 * comparison.mean("base"), comparison


WAYS = {
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
def test_other_losses_and_models_find_it_too(tmp_path, way):
    check_found(compare(tmp_path, True, *WAYS[way]))


@pytest.mark.slow
def test_over_many_seeds_noise_does_not_win(tmp_path):
    comparison = compare(tmp_path, False, BPR, LOSS, seeds=20)
    assert comparison.verdict.outcome in ("no win", "worse"), comparison
    (control,) = (pair for pair in comparison.verdict.pairs if pair.rival == "shuffled")
    assert not control.proven, comparison
