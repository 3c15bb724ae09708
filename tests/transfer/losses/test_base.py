"""What every loss does before its mathematics."""

from __future__ import annotations

import pytest
import torch

from recbole_llmkt.transfer.losses.base import TransferLoss, to_unit_length, unique_rows


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
