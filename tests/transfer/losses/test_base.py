"""What every loss does before its mathematics."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from recbole_llmkt.transfer.losses.base import (
    TransferLoss,
    full_precision,
    mean_row,
    to_unit_length,
    unique_rows,
)
from recbole_llmkt.utils.exceptions import ConfigError


class Remember(TransferLoss):
    unique = True

    def compute(self, hidden, target, ids):
        self.seen = hidden, target, ids
        return hidden.sum()


def test_rows_of_an_id_are_one_row_with_the_targets_of_that_id():
    loss = Remember()
    hidden = torch.tensor([[1.0], [5.0], [3.0]], dtype=torch.float16)
    target = torch.tensor([[30.0], [10.0], [30.0]])
    loss(hidden, target, torch.tensor([3, 1, 3]))
    seen_hidden, seen_target, ids = loss.seen
    assert ids.tolist() == [1, 3]
    assert seen_hidden.tolist() == [[5.0], [2.0]]
    assert seen_target.tolist() == [[10.0], [30.0]]
    assert seen_hidden.dtype == torch.float32


def test_the_mean_of_rows_sends_each_its_share_of_the_gradient():
    hidden = torch.tensor([[1.0], [2.0], [4.0]], requires_grad=True)
    means, ids, first = unique_rows(hidden, torch.tensor([7, 2, 7]))
    assert (ids.tolist(), first.tolist()) == ([2, 7], [1, 0])
    (means * torch.tensor([[1.0], [10.0]])).sum().backward()
    assert hidden.grad.tolist() == [[5.0], [1.0], [5.0]]


def test_no_rows_are_no_loss_but_a_graph():
    hidden = torch.zeros(0, 2, requires_grad=True)
    loss = Remember()(hidden, torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0.0
    assert hidden.grad.shape == (0, 2)


def test_a_subclass_must_say_what_it_computes():
    with pytest.raises(NotImplementedError):
        TransferLoss()(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, dtype=torch.int64))


def test_unit_length():
    vectors = to_unit_length(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    torch.testing.assert_close(vectors, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


@pytest.mark.parametrize(
    ("hidden", "target", "ids"), [((2,), (2,), 2), ((2, 1), (3, 1), 2), ((2, 1), (2, 1), 3)]
)
def test_shapes_that_do_not_fit_are_named(hidden, target, ids):
    words = f"hidden {hidden}, target {target} and ids ({ids},) must have the same number of rows."
    with pytest.raises(ValueError) as refused:
        Remember()(torch.ones(hidden), torch.ones(target), torch.arange(ids))
    assert str(refused.value) == words


@pytest.mark.parametrize(
    ("returned", "kind"),
    [
        (lambda hidden: 1.0, "float"),
        (lambda hidden: hidden.sum(1), "tensor of shape (2,) and type torch.float32"),
        (lambda hidden: torch.tensor(1), "tensor of shape () and type torch.int64"),
    ],
)
def test_what_is_no_loss_is_refused(returned, kind):
    class Own(TransferLoss):
        def compute(self, hidden, target, ids):
            return returned(hidden)

    with pytest.raises(ConfigError) as refused:
        Own()(torch.ones(2, 3, requires_grad=True), torch.ones(2, 3), torch.arange(2))
    assert str(refused.value) == (
        f"kt_loss: '{__name__}.{Own.__qualname__}' returned a {kind}: return one number, a float "
        "tensor of shape (), such as the mean over the rows."
    )


def test_a_loss_without_a_gradient_is_refused_where_one_is_needed():
    class Detached(TransferLoss):
        def compute(self, hidden, target, ids):
            return hidden.detach().sum()

    rows = torch.ones(2, 3), torch.arange(2)
    with pytest.raises(ConfigError) as refused:
        Detached()(torch.ones(2, 3, requires_grad=True), *rows)
    assert str(refused.value) == (
        f"kt_loss: '{__name__}.{Detached.__qualname__}' returned a loss without a gradient: "
        "compute it from `hidden` with torch, without detach() or item()."
    )
    assert Detached()(torch.ones(2, 3), *rows) == 6.0


def test_the_mean_row_counts_each_so_often():
    losses = torch.tensor([3.0, 5.0])
    assert mean_row(losses, None) == 4.0
    assert mean_row(losses, torch.tensor([3.0, 1.0])) == 3.5
    assert mean_row(losses, torch.tensor([1.0, 0.0])) == 3.0
    assert mean_row(losses, torch.zeros(2)) == 0.0


def test_autocast_is_left_for_a_product():
    rows = torch.ones(2, 2)
    assert isinstance(full_precision(rows), nullcontext)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (rows @ rows).dtype == torch.bfloat16
        with full_precision(rows):
            assert (rows @ rows).dtype == torch.float32
