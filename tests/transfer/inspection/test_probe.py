"""Experiments on the shadow of a model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recbole_llmkt.transfer.inspection.layers import Layer
from recbole_llmkt.transfer.inspection.probe import (
    PROBE_SIZES,
    Probe,
    loss_methods,
    make_batch,
    shadow_of,
)
from tests.helpers import prepare


@pytest.fixture
def run(make_dataset):
    return prepare(make_dataset(n_users=12, n_items=20).config(kt_enabled=False))


def test_a_shadow_shares_parameters_and_owns_counters_and_buffers():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model.steps = 3
    model.cache = {"seen": [1]}
    shadow = shadow_of(model)
    assert shadow[0].weight is model[0].weight
    shadow.train()(torch.randn(4, 2))
    shadow.steps += 1
    shadow.cache["seen"].append(2)
    assert model[1].num_batches_tracked.item() == 0
    assert (model.steps, model.cache) == (3, {"seen": [1]})
    shadow[0].weight.grad = torch.ones(2, 2)
    shadow.zero_grad()  # a loss that calls it does not clear the model's own gradients
    assert model[0].weight.grad is not None


def test_probing_leaves_model_loader_and_random_streams_alone(run):
    torch.manual_seed(3)
    wanted = torch.rand(2)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    was_training = run.model.eval().training
    torch.manual_seed(3)
    Probe(run.model, run.train_data, [Layer("user_embedding")])
    assert torch.equal(torch.rand(2), wanted)
    assert run.model.training is was_training
    assert all(value.grad is None for value in run.model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())


def test_a_lookup_follows_the_batch_and_a_whole_table_does_not(run):
    lookup, table = Layer("user_embedding"), Layer("item_embedding.weight")
    probe = Probe(run.model, run.train_data, [lookup, table])
    assert probe.lengths(lookup, 0) == PROBE_SIZES
    assert probe.lengths(table, 0) == (21, 21)
    assert probe.follows_batch(lookup, 0, ["user_id"]) == [True]
    assert probe.follows_batch(lookup, 0, ["item_id"]) == [False]
    assert probe.follows_batch(table, 0, ["item_id"]) == [False]
    assert probe.changed(lookup, 0, [4], ["user_id"]) == [{4}]


def test_a_parameter_that_the_loss_does_without_shows_no_call(run):
    run.model.unused = nn.Parameter(torch.ones(3))
    probe = Probe(run.model, run.train_data, [Layer("unused"), Layer("user_embedding.weight")])
    assert probe.readings[0].calls[Layer("unused")] == []
    assert len(probe.readings[0].calls[Layer("user_embedding.weight")]) == 1


def test_a_batch_is_spread_over_the_data(run):
    batch = make_batch(run.train_data, 11)
    assert len(batch) == 11
    assert len(set(batch["user_id"].tolist())) >= 6


def test_the_losses_that_a_model_defines(run):
    assert loss_methods(run.model) == ["calculate_loss"]
