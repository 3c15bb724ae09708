"""Data at the edge: one user, one item, layers one number wide, and profiles that say the same."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recbole_llmkt.profiles.embeddings import embedding_paths
from recbole_llmkt.quick_start import train
from recbole_llmkt.utils.exceptions import DataError, LayerError
from tests.helpers import ENCODER, random_vectors, write_profiles

SPLIT = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "group_by": "user", "mode": "full"}
# All ways to use profiles, each with what else it needs here.
WAYS = {
    "rmse": {},
    "infonce": {"kt_loss": "infonce"},
    "gram": {"kt_loss": "gram"},
    "softrank": {"kt_loss": "softrank", "kt_transform": "none"},
    "vicreg": {"kt_regularizer": "vicreg"},
    "whitened": {"kt_transform": "pca_whiten"},
    "random": {"kt_transform": "random"},
    "shuffled": {"kt_control": "shuffled"},
    "start": {"kt_init": "targets"},
    "hybrid": {"kt_hybrid": "linear"},
    "neighbours": {"kt_hybrid": "neighbours"},
    "cold start": {"kt_cold_start": True},
}


def is_finite(result):
    values = [result["best_valid_score"], *result["test_result"].values()]
    transfer = result["transfer"] or {}
    return all(map(math.isfinite, [*values, *transfer.get("transfer_loss", [])]))


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((1, 12, (10, 10)), "Some users have interacted with all items"),
        ((12, 1, (1, 1)), "Some users have interacted with all items"),
        ((2, 2, (1, 2)), "Some users have interacted with all items"),
    ],
    ids=["one user", "one item", "two of each"],
)
def test_few_users_and_items(make_dataset, size, words):
    """RecBole samples no negatives where nothing is left to sample: that is said in one line."""
    keys = {"topk": [1], "valid_metric": "NDCG@1", "eval_args": SPLIT, "kt_enabled": False}
    with pytest.raises(DataError, match=words) as caught:
        train(make_dataset(*size).config(epochs=1, **keys))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "size", [(1, 12, (10, 10)), (2, 2, (1, 2))], ids=["one user", "one interaction"]
)
def test_a_sequential_model_of_one_user(make_dataset, size):
    keys = {"topk": [1], "valid_metric": "NDCG@1", "hidden_size": 4, "kt_enabled": False}
    config = make_dataset(*size).config(
        "GRU4Rec", epochs=1, train_neg_sample_args=None, eval_args=SPLIT, **keys
    )
    result = train(config)
    validated = result["best_valid_result"] is not None
    assert math.isfinite(result["best_valid_score"]) is validated


def test_histories_of_one_interaction_leave_a_sequential_model_nothing(make_dataset):
    config = make_dataset(12, 5, (1, 1)).config(
        "GRU4Rec", train_neg_sample_args=None, eval_args=SPLIT, topk=[1], valid_metric="NDCG@1"
    )
    with pytest.raises(DataError, match="nothing is left for the training part"):
        train(config)


@pytest.mark.parametrize("way", WAYS)
def test_profiles_that_are_all_alike(tiny, way):
    for entity in ("user", "item"):
        path = embedding_paths(tiny.folder / "profiles", ENCODER, entity)[0]
        np.save(path, np.ones_like(np.load(path)))
    assert is_finite(train(tiny.config(epochs=2, topk=[1], valid_metric="NDCG@1", **WAYS[way])))


def test_a_layer_one_number_wide(tiny):
    """There is nothing to reconstruct in one number; a model without transfer trains."""
    with pytest.raises(
        LayerError, match=r"'user_embedding' is 1 wide: there is nothing to .*wider"
    ):
        train(tiny.config(epochs=2, embedding_size=1))
    assert is_finite(train(tiny.config(epochs=1, embedding_size=1, kt_enabled=False)))


def test_one_profile_alone(make_dataset):
    dataset = make_dataset()
    write_profiles(dataset.folder / "profiles", "user", random_vectors(["u1"]), {"u1": None})
    keys = {"kt_transform": "random", "kt_entity": "user", "profile_allow_leak": True}
    assert is_finite(train(dataset.config(epochs=2, **keys)))
