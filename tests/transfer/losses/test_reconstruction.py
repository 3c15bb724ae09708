"""Reconstruction losses of two rows, by hand."""

from __future__ import annotations

import pytest
import torch

from recbole_llmkt.transfer.losses.reconstruction import (
    CosineLoss,
    MSELoss,
    RMSELoss,
    SCELoss,
)

HIDDEN = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
TARGET = torch.tensor([[4.0, 3.0], [0.0, 2.0]])
IDS = torch.tensor([1, 1])  # rows of one user each count
ROW = HIDDEN[:1], TARGET[:1]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (MSELoss, (1 + 1 + 1 + 4) / 4),
        (RMSELoss, (7 / 4) ** 0.5),
        (CosineLoss, ((1 - 24 / 25) + 1) / 2),
        (SCELoss, ((1 - 24 / 25) ** 2 + 1) / 2),
    ],
)
def test_values(kind, value):
    assert kind()(HIDDEN, TARGET, IDS).item() == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("kind", [CosineLoss, SCELoss])
def test_lengths_do_not_count_and_opposites_are_worst(kind):
    assert kind()(HIDDEN, 7 * HIDDEN, IDS).item() == pytest.approx(0.0, abs=1e-6)
    worst = {CosineLoss: 2.0, SCELoss: 4.0}[kind]
    assert kind()(HIDDEN, -HIDDEN, IDS).item() == pytest.approx(worst, rel=1e-5)


def test_another_width_is_refused():
    with pytest.raises(ValueError, match="hidden is 2 wide and target 3"):
        RMSELoss()(HIDDEN, torch.ones(2, 3), IDS)


def test_the_gradient_of_a_perfect_reconstruction_is_zero():
    hidden = HIDDEN.clone().requires_grad_()
    RMSELoss()(hidden, HIDDEN, IDS).backward()
    assert hidden.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_the_gradient_of_rmse_is_that_of_its_equation():
    rng = torch.Generator().manual_seed(2)
    hidden, target = (torch.randn(5, 3, generator=rng, requires_grad=True) for _ in range(2))
    by_hand = torch.autograd.grad((hidden - target).square().mean().sqrt(), (hidden, target))
    loss = RMSELoss().compute(hidden, target, torch.arange(5))
    gradients = torch.autograd.grad(3 * loss, (hidden, target))
    for ours, theirs in zip(gradients, by_hand):
        torch.testing.assert_close(ours, 3 * theirs)
    perfect = RMSELoss().compute(hidden, hidden.detach(), torch.arange(5))
    assert torch.autograd.grad(perfect, hidden)[0].abs().max() == 0


@pytest.mark.parametrize("kind", [MSELoss, RMSELoss, CosineLoss, SCELoss])
def test_counted_rows_are_repeated_rows(kind):
    rng = torch.Generator().manual_seed(3)
    hidden, target = (torch.randn(4, 3, generator=rng, requires_grad=True) for _ in range(2))
    ids = torch.tensor([2, 0, 2, 2, 3, 0])  # nobody reads row 1
    repeated = kind()(hidden[ids], target[ids], ids)
    counted = kind().of_counted(hidden, target, torch.bincount(ids, minlength=4).float())
    torch.testing.assert_close(counted, repeated, rtol=1e-6, atol=0.0)
    gradients = [torch.autograd.grad(2 * loss, (hidden, target)) for loss in (counted, repeated)]
    for ours, theirs in zip(*gradients):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", [MSELoss, RMSELoss, CosineLoss, SCELoss])
def test_where_no_row_counts_the_loss_is_zero_with_a_graph(kind):
    hidden = HIDDEN.clone().requires_grad_()
    loss = kind().of_counted(hidden, TARGET, torch.zeros(2))
    loss.backward()
    assert loss.item() == 0.0 and hidden.grad.abs().max() == 0


def test_a_subclass_that_computes_otherwise_counts_no_rows():
    class Own(MSELoss):
        def compute(self, hidden, target, ids):
            return (hidden - target).abs().mean()

    assert MSELoss().counts_rows and not Own().counts_rows
    with pytest.raises(ValueError, match="do not fit together"):
        MSELoss().of_counted(HIDDEN, TARGET, torch.zeros(3))


def test_a_root_of_one_counted_row_is_that_of_this_row():
    counts = torch.tensor([1.0, 0.0])
    assert RMSELoss().of_counted(HIDDEN, TARGET, counts) == RMSELoss()(*ROW, torch.arange(1))
