"""Hiding entities from a model for one step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recbole_llmkt.transfer.auxiliary.masking import EntityMask
from recbole_llmkt.transfer.inspection.tables import EntityTable


class Tables(nn.Module):
    """A table of users and items together, and a layer whose columns are items."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = nn.Embedding(9, 3)
        self.encoder = nn.Sequential(nn.Linear(5, 2))

    def forward(self, users: torch.Tensor, history: torch.Tensor) -> torch.Tensor:
        return self.nodes(users).sum() + self.encoder(history).sum()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Tables()


def mask_of(model, ratio=0.5):
    nodes = EntityTable("nodes.weight", "item", 5, 0, 4)
    columns = EntityTable("encoder.0.weight", "item", 5, 1)
    mask = EntityMask([nodes, columns], model, ratio, seed=3)
    with torch.no_grad():
        for value, token in enumerate(mask.tokens, 7):
            token.fill_(float(value))
    return mask


def test_tokens_stand_in_and_gradients_reach_them(model):
    mask, ids = mask_of(model), torch.tensor([2, 4])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with mask.hiding(model, ids):
        nodes, columns = model.nodes.weight, model.encoder[0].weight
        assert (nodes[[6, 8]] == 7.0).all() and (columns[:, [2, 4]] == 8.0).all()
        others = [0, 1, 2, 3, 4, 5, 7]
        assert torch.equal(nodes[others], before["nodes.weight"][others])
        assert torch.equal(columns[:, [0, 1, 3]], before["encoder.0.weight"][:, [0, 1, 3]])
        loss = model(torch.tensor([5, 6, 8]), torch.ones(1, 5))
    loss.backward()
    assert model.nodes.weight.grad.nonzero()[:, 0].unique().tolist() == [5]
    assert mask.tokens[0].grad.tolist() == [2.0] * 3
    assert mask.tokens[1].grad.tolist() == [2.0] * 2
    assert not model.encoder[0].weight.grad[:, [2, 4]].any()


def test_the_model_is_itself_again(model):
    mask, parameters = mask_of(model), dict(model.named_parameters())
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    with pytest.raises(ZeroDivisionError), mask.hiding(model, torch.tensor([1])):
        with mask_of(model).hiding(model, torch.tensor([2])):  # two terms over one table
            assert (model.nodes.weight[[5, 6]] == 7.0).all()
        assert (model.nodes.weight[5] == 7.0).all() and not (model.nodes.weight[6] == 7.0).any()
        assert list(model.state_dict()) == list(parameters)
        raise ZeroDivisionError
    assert all(parameter is parameters[name] for name, parameter in model.named_parameters())
    assert model.nodes.weight is parameters["nodes.weight"]
    assert {name: set(vars(module)) for name, module in model.named_modules()} == attributes


def test_the_choice_depends_on_the_step_alone(model):
    mask, ids = mask_of(model), torch.arange(10, 60)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = mask.choose(ids, (0, 3, 0))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, mask_of(model).choose(ids, (0, 3, 0)))
    assert len(set(first.tolist())) == 25 and set(first.tolist()) <= set(ids.tolist())
    for other in [(0, 4, 0), (1, 3, 0), (0, 3, 1)]:
        assert not torch.equal(first, mask.choose(ids, other))


@pytest.mark.parametrize(
    ("ratio", "n", "expected"),
    [(0.1, 25, 2), (0.0, 25, 1), (1.0, 25, 25), (0.5, 1, 1), (0.5, 0, 0)],
)
def test_how_many(model, ratio, n, expected):
    assert len(mask_of(model, ratio).choose(torch.arange(n), (0, 0, 0))) == expected


def test_nobody_to_hide_changes_nothing_but_keeps_the_tokens_in_the_graph(model):
    """A process of several whose batch has no profile must still give the tokens a gradient."""
    mask, users, history = mask_of(model), torch.tensor([5, 6]), torch.ones(1, 5)
    plain = model(users, history)
    with mask.hiding(model, torch.zeros(0, dtype=torch.long)):
        loss = model(users, history)
    loss.backward()
    assert torch.equal(loss, plain)
    assert [token.grad.abs().sum().item() for token in mask.tokens] == [0.0, 0.0]
