"""Whole runs on MovieLens-100K with the bundled profiles, and stock RecBole beside them."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_llmkt import load_data_and_model, run_recbole_llmkt

QUICK = {
    "epochs": 2,
    "train_batch_size": 8192,
    "eval_batch_size": 1_700_000,
    "show_progress": False,
    "state": "ERROR",
    "metrics": ["Recall", "NDCG", "Hit"],
    "topk": [10],
    "valid_metric": "NDCG@10",
}
# Ranking all pairs through NeuMF's MLP takes half a minute a run.
SAMPLED = {"split": {"RS": [0.7, 0.1, 0.2]}, "order": "TO", "group_by": "user", "mode": "uni5"}
OWN = {
    "NeuMF": {
        "eval_args": SAMPLED,
        "eval_batch_size": 100_000,
        "mf_embedding_size": 16,
        "mlp_embedding_size": 16,
        "mlp_hidden_size": [16],
    },
    "SimpleX": {"embedding_size": 16, "history_len": 10},
    "MultiVAE": {"train_batch_size": 512},
}


OTHERS = [pytest.param(model, marks=pytest.mark.slow) for model in ("SimpleX", "MultiVAE")]


@pytest.mark.parametrize("model", ["NeuMF", *OTHERS])
def test_base_and_kt_with_the_real_profiles(model):
    keys = {**QUICK, **OWN.get(model, {})}
    base = run_recbole_llmkt(model, "ml-100k", config_dict={**keys, "kt_enabled": False})
    kt = run_recbole_llmkt(model, "ml-100k", config_dict=keys)
    transfer = kt["transfer"]
    (term,) = transfer["terms"]
    assert term["coverage"] == 1.0 and term["profiles"] == 943 and transfer["leaks"] == 0
    assert term["encoder"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert transfer["phase_switch"] == 1 and math.isfinite(transfer["transfer_loss"][0])
    assert kt["test_result"].keys() == base["test_result"].keys()
    assert kt["test_result"] != base["test_result"] and base["transfer"] is None
    ours, theirs = (
        torch.load(result["checkpoint"], weights_only=True)["state_dict"] for result in (kt, base)
    )
    assert {name: value.shape for name, value in ours.items()} == {
        name: value.shape for name, value in theirs.items()
    }


def test_a_checkpoint_of_real_data_is_loaded_with_its_data():
    result = run_recbole_llmkt("BPR", "ml-100k", config_dict={**QUICK, "kt_entity": "both"})
    assert [term["coverage"] for term in result["transfer"]["terms"]] == [1.0, 1.0]
    _, model, dataset, *_ = load_data_and_model(result["checkpoint"])
    state = torch.load(result["checkpoint"], weights_only=True)["state_dict"]
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert dataset.user_num == 944
