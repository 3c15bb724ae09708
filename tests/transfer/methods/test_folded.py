"""Parameters trained by their summands, one step by hand."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import torch
from torch import nn

from recbole_llmkt.transfer.inspection.tables import EntityTable
from recbole_llmkt.transfer.methods.folded import FoldedParameter, Part, flushed, join_optimizers
from recbole_llmkt.transfer.methods.linear_map import LinearMap
from recbole_llmkt.transfer.methods.neighbours import NeighbourMean, Neighbours
from recbole_llmkt.utils.exceptions import ConfigError, LayerError


class Shift(Part):
    """Add a number that is learned, w, to every value of ids 1 and 2."""

    def __init__(self, rate=1.0):
        super().__init__(EntityTable("table", "item", 2, offset=1), None)
        self.weight = nn.Parameter(torch.zeros(()))
        self._rate = rate

    def learned(self):
        return [self.weight]

    def rate(self):
        return self._rate

    def add_to(self, rows, own, ids=None):
        rows += self.weight.detach()

    def take_gradient(self, gradient, ids=None):
        self.weight.grad = (gradient if ids is None else gradient[ids]).sum()


@pytest.fixture
def table():
    return nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))


def test_a_step_moves_own_values_and_what_is_learned(table):
    part = Shift(rate=0.5)
    optimizer = torch.optim.SGD([table], lr=0.1)
    joined = join_optimizers([FoldedParameter("table", table, [part])], [optimizer])
    optimizer.zero_grad()
    table.sum().backward()
    optimizer.step()
    # Own values move by -0.1; w by -0.1 x 0.5 x 4, the sum of the gradients of two rows.
    assert part.weight.item() == pytest.approx(-0.2)
    expected = torch.tensor([[0.9, 1.9], [2.7, 3.7], [4.7, 5.7]])
    torch.testing.assert_close(table.detach(), expected)
    joined.close()
    table.sum().backward()
    optimizer.step()
    torch.testing.assert_close(table.detach(), expected)


@pytest.mark.parametrize("otherwise", [False, True], ids=["lookups", "whole table"])
def test_rows_on_demand_are_those_of_the_whole_sum(otherwise):
    rng = torch.Generator().manual_seed(5)
    start, features = torch.randn(7, 3, generator=rng), torch.randn(4, 2, generator=rng)
    links = torch.tensor([[0, 0], [2, 1], [1, 0]])
    batches = [torch.tensor(ids) for ids in ([1, 2, 2], [5, 0], [6, 4, 3], [2, 6], [1, 5])]

    def trained(on_demand):
        module = nn.Embedding.from_pretrained(start.clone(), freeze=False)
        mean = NeighbourMean(links, start)
        neighbours = Neighbours(EntityTable("e", "user", 3), None, mean, 0.5)
        linear = LinearMap(EntityTable("e", "item", 4, offset=3), None, features, 3)
        folded = FoldedParameter("e", module.weight, [neighbours, linear])
        folded.write()
        optimizer = torch.optim.Adam([module.weight], lr=0.1)
        read = []
        with join_optimizers([folded], [optimizer]), ExitStack() as epoch:
            if on_demand:
                epoch.enter_context(folded.on_demand([module]))
            for ids in batches:
                optimizer.zero_grad()
                rows = module(ids)
                read.append(rows.detach().clone())
                loss = rows.square().sum() + rows.sum()
                (loss + module.weight.square().sum() if otherwise else loss).backward()
                optimizer.step()
            if on_demand:  # row 4 was last looked up in the third step
                is_whole = torch.allclose(module.weight[4], trained(False)[1][4])
                assert is_whole is otherwise
        return read, module.weight.detach(), folded.own.detach()

    for ours, theirs in zip(trained(True), trained(False)):
        torch.testing.assert_close(ours, theirs)


def test_zero_grad_clears_the_gradient_of_the_sum(table):
    optimizer = torch.optim.SGD([table], lr=0.1)
    with join_optimizers([FoldedParameter("table", table, [Shift()])], [optimizer]):
        table.sum().backward()
        optimizer.zero_grad()
        assert table.grad is None
        before = table.detach().clone()
        optimizer.step()  # without a gradient nothing moves
        assert torch.equal(table.detach(), before)


def test_optimizers_that_cannot_train_a_sum(table):
    folded = FoldedParameter("table", table, [Shift()])
    other = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(LayerError, match="No optimizer trains 'table'"):
        join_optimizers([folded], [other])
    with pytest.raises(ConfigError, match="sparse_adam cannot train kt_hybrid"):
        join_optimizers([folded], [torch.optim.SparseAdam([table], lr=0.1)])


def test_what_is_next_to_nothing_is_nothing():
    assert flushed(torch.tensor([1e-38, -1e-31, 1e-29, -2.0])).tolist() == pytest.approx(
        [0.0, 0.0, 1e-29, -2.0], rel=1e-6, abs=0.0
    )
