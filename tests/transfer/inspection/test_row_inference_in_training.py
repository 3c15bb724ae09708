"""Which user or item a row belongs to, found in the training steps of models on real data."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recbole_llmkt.transfer.inspection.layers import Layer
from recbole_llmkt.transfer.inspection.probe import Probe
from recbole_llmkt.transfer.inspection.row_inference import (
    check_gradient,
    infer_rows,
    probed_layers,
)
from recbole_llmkt.transfer.inspection.rows import Entities
from recbole_llmkt.utils.exceptions import LayerError, RowsError
from tests.helpers import prepare
from tests.transfer.inspection.test_catalog import Towers


class Odd(Towers):
    """Layers whose shapes mislead."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.doubled = nn.Identity()
        self.shuffled = nn.Identity()
        self.of_items = nn.Identity()
        self.idle = nn.Linear(6, 6)
        self.data = nn.Identity()
        self.mean = nn.Identity()

    def calculate_loss(self, interaction):
        states = self.user_tower(self.who(interaction[self.USER_ID]))
        self.doubled(torch.cat([states, states]))
        self.shuffled(states.flip(0))
        self.of_items(self.item_tower(self.what(interaction[self.ITEM_ID])))
        self.data(torch.randn(len(states), 4))
        self.mean(states - states.mean(0))
        return super().calculate_loss(interaction)


def decide(dataset, layer, entity="user", wanted="auto", model=Odd, **keys):
    ready = prepare(dataset.config(model, kt_enabled=False, **keys))
    spec = Layer.parse(layer)
    probe = Probe(ready.model, ready.train_data, probed_layers(ready.model, [spec]))
    entities = Entities.of(ready.dataset, entity, probe.batches[0])
    return infer_rows(probe, spec, entities, wanted), probe


@pytest.mark.parametrize(
    ("layer", "entity", "meaning"),
    [
        ("who", "user", "lookup"),
        ("who.weight", "user", "table"),
        ("user_tower", "user", "batch"),
        ("what", "item", "lookup"),
        ("of_items", "item", "batch"),
    ],
)
def test_what_experiments_find(tiny, layer, entity, meaning):
    assert str(decide(tiny, layer, entity)[0]) == meaning


@pytest.mark.parametrize(
    ("layer", "entity"),
    [
        ("doubled", "user"),  # twice the rows of the batch
        ("shuffled", "user"),  # as many rows as the batch, in another order
        ("mean", "user"),  # every row depends on every row
        ("of_items", "user"),  # rows of the batch, but the other entity's
        ("user_tower", "item"),
        ("who.weight", "item"),
    ],
)
def test_shapes_that_mislead_are_refused(tiny, layer, entity):
    with pytest.raises(RowsError, match=f"which {entity} each row of '{layer}'"):
        decide(tiny, layer, entity)


def test_the_message_lists_the_choices(tiny):
    with pytest.raises(RowsError, match="lookup, table, node, batch, field"):
        decide(tiny, "mean")


def test_an_explicit_meaning_is_believed(tiny):
    rows, probe = decide(tiny, "mean", wanted="batch")
    reading = probe.readings[0]
    hidden, ids = rows.align(reading.calls[Layer.parse("mean")], reading.interaction)
    assert torch.equal(ids, reading.interaction["user_id"])
    assert hidden.shape == (len(ids), 12)


def test_a_layer_that_never_runs(tiny):
    with pytest.raises(LayerError, match=r"'idle' never runs.*llmkt layers"):
        decide(tiny, "idle")


def test_a_layer_without_gradient(tiny):
    _, probe = decide(tiny, "data", wanted="batch")
    with pytest.raises(LayerError, match="No gradient flows"):
        check_gradient(probe, Layer.parse("data"))


def test_positives_and_negatives_each_keep_their_ids(tiny):
    rows, probe = decide(tiny, "item_embedding", "item", model="BPR")
    reading = probe.readings[0]
    hidden, ids = rows.align(reading.calls[Layer.parse("item_embedding")], reading.interaction)
    expected = torch.cat([reading.interaction["item_id"], reading.interaction["neg_item_id"]])
    assert torch.equal(ids, expected)
    assert torch.equal(hidden, probe.shadow.item_embedding.weight[ids])


def test_the_call_for_each_item_is_told_apart(tiny):
    rows, probe = decide(tiny, "item_tower", "item")
    reading = probe.readings[0]
    _, ids = rows.align(reading.calls[Layer.parse("item_tower")], reading.interaction)
    positives, negatives = reading.interaction["item_id"], reading.interaction["neg_item_id"]
    # of_items asks for the positives once more, before the loss does.
    assert torch.equal(ids, torch.cat([positives, positives, negatives]))
