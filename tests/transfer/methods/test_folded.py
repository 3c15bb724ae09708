"""Parameters trained by their summands, one step by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recbole_llmkt.transfer.inspection.tables import EntityTable
from recbole_llmkt.transfer.methods.folded import FoldedParameter, Part, flushed, join_optimizers
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

    def added(self, own):
        return self.weight.detach().expand_as(own)

    def take_gradient(self, gradient):
        self.weight.grad = gradient.sum()
        return None


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
