"""Presets train, and both entities with a weight each."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_llmkt.transfer.losses import LOSSES
from recbole_llmkt.utils import resources
from tests.helpers import prepare

SMALL = {"latent_dimension": 8, "history_len": 4, "n_layers": 2}
SEQUENTIAL = {
    "train_neg_sample_args": None,
    "hidden_size": 8,
    "n_heads": 2,
    "eval_args": {
        "split": {"LS": "valid_and_test"},
        "order": "TO",
        "group_by": "user",
        "mode": "full",
    },
    "profile_allow_leak": True,
}


@pytest.mark.parametrize(
    ("preset", "model", "keys"),
    [
        ("llmkt", "NeuMF", {"kt_layer": "auto", "kt_transform": "random"}),  # UMAP takes seconds
        ("llmkt_seq", "SASRec", SEQUENTIAL),
        ("llmkt_seq", "BPR", {}),
        ("rlmrec_con", "LightGCN", SMALL),
        ("rlmrec_con", "BPR", {}),
        ("rlmrec_con", "MultiVAE", {"mlp_hidden_size": [16]}),
        ("rlmrec_gen", "LightGCN", SMALL),
        ("rlmrec_gen", "SGL", SMALL),
    ],
)
def test_every_preset_trains(tiny, preset, model, keys):
    eval_args = tiny.settings()["eval_args"]
    keys = {"eval_args": eval_args, "epochs": 2, **keys}
    run = prepare(tiny.config(model, kt_preset=preset, **keys))
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.fit()
    losses = run.method("loss").transfer_losses
    assert len(losses) == (2 if preset.startswith("rlmrec") else 1)
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    reached = run.method("loss").task.terms[0].reached
    assert any(not torch.equal(before[name], run.model.state_dict()[name]) for name in reached)


@pytest.mark.parametrize(("model", "tables"), [("BPR", 1), ("MultiVAE", 3), ("EASE", 0)])
def test_the_recommended_preset_uses_items_without_a_loss(tiny, model, tables):
    keys = {"latent_dimension": 8, "mlp_hidden_size": [16], "train_neg_sample_args": None}
    keys = keys if model == "MultiVAE" else {}
    run = prepare(tiny.config(model, kt_preset="recommended", epochs=2, **keys))
    run.fit()
    summary = run.trainer.transfer_summary()
    if not tables:
        assert {closed["entity"] for closed in summary["closed_form"]} == {"item"}
        return
    assert [table["entity"] for table in summary["hybrid"]] == ["item"] * tables
    assert {table["kind"] for table in summary["hybrid"]} == {"neighbours"}
    assert all(table["share"] == 0.5 and table["rows"] for table in summary["hybrid"])


def test_every_preset_is_tested():
    (mark,) = test_every_preset_trains.pytestmark
    tested = {preset for preset, _, _ in mark.args[1]} | {"recommended"}
    assert tested == set(resources.names("presets"))


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_both_entities_with_a_weight_each(tiny, loss):
    keys = {"kt_entity": "both", "kt_weight": [0.2, 0.1], "kt_loss": loss, **SMALL}
    keys["kt_transform"] = "none" if loss == "softrank" else "pca"
    run = prepare(tiny.config("LightGCN", epochs=2, **keys))
    run.fit()
    terms = run.trainer.transfer_summary()["terms"]
    assert [(term["entity"], term["weight"]) for term in terms] == [("user", 0.2), ("item", 0.1)]
    assert all(math.isfinite(value) for value in run.method("loss").transfer_losses)
