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
