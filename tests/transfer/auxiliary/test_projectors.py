"""Projectors: shapes, depth, and the stream they are drawn from."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recbole_llmkt.transfer.auxiliary.projectors import make_projector


def test_none():
    assert make_projector("none", 8, 8) is None


@pytest.mark.parametrize(("name", "n_linear"), [("linear", 1), ("mlp", 2)])
def test_maps_to_the_target_width(name, n_linear):
    projector = make_projector(name, 8, 5)
    hidden = torch.randn(3, 8, requires_grad=True)
    out = projector(hidden)
    out.sum().backward()
    assert out.shape == (3, 5)
    assert hidden.grad.abs().sum() > 0
    assert sum(isinstance(module, nn.Linear) for module in projector.modules()) == n_linear


def test_linear_is_a_matrix_and_a_bias():
    projector = make_projector("linear", 4, 3)
    hidden = torch.randn(2, 4)
    expected = hidden @ projector.weight.T + projector.bias
    torch.testing.assert_close(projector(hidden), expected)


def test_mlp_is_not_linear():
    projector = make_projector("mlp", 4, 3)
    single = projector(torch.ones(1, 4)) - projector(torch.zeros(1, 4))
    double = projector(2 * torch.ones(1, 4)) - projector(torch.zeros(1, 4))
    assert not torch.allclose(2 * single, double, atol=1e-6)


def test_the_profiles_side_maps_the_other_way():
    projector = make_projector("profile_mlp", 4, 10)
    assert projector(torch.randn(3, 10)).shape == (3, 4)
    assert [tuple(module.weight.shape) for module in projector[::2]] == [(7, 10), (4, 7)]
