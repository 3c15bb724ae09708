"""Planted knowledge is found, and knowledge that is not there is not.

The base arm has the weight decay and the number of epochs that suit it best on these data, out of
seven (0 to 0.03) and three (5, 20, 40). All other arms take the same, untuned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from planted import settings, write_planted

from recbole_llmkt.config import Config
from recbole_llmkt.experiment.statistics import estimate
from recbole_llmkt.quick_start import train

BPR: dict[str, Any] = {"model": "BPR", "weight_decay": 1e-3}
LIGHTGCN = {"model": "LightGCN", "n_layers": 2, "reg_weight": 1e-3}
LOSS = {"kt_entity": "both", "kt_weight": 0.6}
START = {"kt_entity": "both", "kt_weight": 0.0, "kt_init": "targets"}

Scores = Mapping[str, Sequence[float]]


def scores(
    folder: Path, informed: bool, model: dict[str, Any], kt: dict[str, Any], seeds: int
) -> Scores:
    """Train three arms on data drawn anew for each seed; return NDCG@10 of the test part."""
    arms = {
        "base": {"kt_enabled": False},
        "kt": kt,
        "shuffled": {**kt, "kt_control": "shuffled"},
    }
    found: dict[str, list[float]] = {arm: [] for arm in arms}
    for seed in range(seeds):
        data = folder / str(seed)
        write_planted(data, seed, informed)
        for arm, keys in arms.items():
            values = settings(data, seed=seed, **{**model, **keys})
            name = values.pop("model")
            config = Config(name, "planted", config_dict=values, command_line=[])
            found[arm].append(train(config, saved=False, verbose=False)["test_result"]["ndcg@10"])
    return found


def beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """Tell whether the 95% interval of the paired difference lies above 0."""
    low = estimate([first - second for first, second in zip(one, other)]).low
    return low is not None and low > 0.0


def check_found(found: Scores) -> None:
    assert beats(found["kt"], found["base"]), found
    assert beats(found["kt"], found["shuffled"]), found
    assert not beats(found["shuffled"], found["base"]), found
    assert estimate(found["kt"]).mean > 1.5 * estimate(found["base"]).mean, found


@pytest.mark.parametrize("kt", [LOSS, START], ids=["loss", "start"])
def test_knowledge_that_decides_the_test_wins_and_its_control_does_not(tmp_path, kt):
    check_found(scores(tmp_path, True, BPR, kt, seeds=5))


@pytest.mark.parametrize("kt", [LOSS, START], ids=["loss", "start"])
def test_profiles_that_are_noise_do_not_win(tmp_path, kt):
    found = scores(tmp_path, False, BPR, kt, seeds=5)
    assert not (beats(found["kt"], found["base"]) and beats(found["kt"], found["shuffled"])), found
    assert estimate(found["kt"]).mean < 1.15 * estimate(found["base"]).mean, found


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
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_other_losses_and_models_find_it_too(tmp_path, way):
    check_found(scores(tmp_path, True, *WAYS[way], seeds=5))


@pytest.mark.slow
def test_over_many_seeds_noise_does_not_win(tmp_path):
    found = scores(tmp_path, False, BPR, LOSS, seeds=20)
    assert not beats(found["kt"], found["shuffled"]), found
