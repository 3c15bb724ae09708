"""The interface of a method, and where profiles were used, in words."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recbole_llmkt.transfer.methods.base import Method, places


class Quiet(Method):
    name = "quiet"


def test_a_method_that_says_nothing_changes_nothing():
    method = Quiet({"kt_entity": "both"})
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoint = {"state_dict": before, "transfer": {}}
    Quiet.check(method.config)
    Quiet.rewind(checkpoint)
    method.join_optimizers([optimizer])
    method.on_epoch_begin(0)
    method.on_epoch_end(0)
    method.close()
    method.finish(model, None)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [len(group["params"]) for group in optimizer.param_groups] == [2]
    assert checkpoint == {"state_dict": before, "transfer": {}}
    assert Quiet.build_model(method.config, None, None, None) is None
    assert method.state_dict() == method.summary() == method.knowledge() == {}


@pytest.mark.parametrize(
    ("setting", "entities"), [("both", {"user", "item"}), (["item"], {"item"}), ("user", {"user"})]
)
def test_whose_profiles_are_read(setting, entities):
    assert Quiet.entities({"kt_entity": setting}) == entities


@pytest.mark.parametrize(
    ("key", "facts", "words"),
    [
        ("anything", {"place": "start of x"}, "start of x"),
        ("terms", {"layer": "user_embedding"}, "user_embedding"),
        ("terms", {}, "input"),
        ("init", {"table": "user.weight"}, "start of user.weight"),
        ("cold_start", {"tables": ["a", "b"]}, "cold start of a, b"),
        ("hybrid", {"table": "item.weight"}, "hybrid item.weight"),
        ("own_method", {}, "own_method"),
    ],
)
def test_places_in_words(key, facts, words):
    entry = {"entity": "user", **facts}
    assert places({key: [entry]}) == [(words, entry)]


def test_only_entries_with_an_entity_are_places():
    summary = {"transfer_loss": [0.5, None], "phase_switch": 2, "terms": [{"layer": "x"}]}
    assert places(summary) == []
