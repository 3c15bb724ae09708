"""Norms of gradients, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recbole_llmkt.transfer.auxiliary.gradients import GradientRatio


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_the_ratio_of_two_gradients_and_nothing_else_changes(scale):
    shared, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    transfer = (torch.tensor([3.0, 4.0]) * shared).sum()  # norm 5
    own = (torch.tensor([0.0, 2.0]) * shared).sum() + other.sum()  # norm 2 at the shared one
    ratio = GradientRatio(transfer, [shared])
    (scale * (own + transfer)).backward()
    assert shared.grad.tolist() == [3.0 * scale, 6.0 * scale]
    ratio.close()
    assert ratio.value == pytest.approx(2.5)
    shared.sum().backward()
    ratio.close()
    assert ratio.value == pytest.approx(2.5)  # of the first step


def test_no_ratio_without_a_gradient_of_the_model():
    shared = nn.Parameter(torch.ones(2))
    transfer = (torch.tensor([3.0, 4.0]) * shared).sum()
    ratio = GradientRatio(transfer, [shared])
    (0.0 * shared.sum() + transfer).backward()
    ratio.close()
    assert ratio.value is None
    nothing = GradientRatio(transfer.detach(), [])
    nothing.close()
    assert nothing.value is None
