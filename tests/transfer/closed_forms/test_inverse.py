"""The inverse in blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_llmkt.transfer.closed_forms import inverse as module
from recbole_llmkt.transfer.closed_forms.inverse import inverse
from recbole_llmkt.utils.exceptions import ConfigError


def positive_definite(n: int) -> torch.Tensor:
    wide = torch.randn(n, 2 * n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return wide @ wide.T + torch.eye(n)


def test_an_inverse_takes_the_place_of_its_matrix():
    matrix = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    inverted = inverse(matrix, "pray")
    assert inverted.data_ptr() == matrix.data_ptr()
    np.testing.assert_allclose(inverted, [[2 / 3, -1 / 3], [-1 / 3, 2 / 3]], atol=1e-6)


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 50])
def test_the_inverse_is_the_same_in_any_blocks(monkeypatch, width):
    matrix = positive_definite(7)
    expected = np.linalg.inv(matrix.numpy())
    monkeypatch.setattr(module, "_WIDTH", width)
    np.testing.assert_allclose(inverse(matrix, "pray"), expected, rtol=1e-9, atol=1e-12)


def test_float32_is_as_exact_as_lapack():
    matrix = positive_definite(1100)
    exact = torch.linalg.inv(matrix)
    lapack = torch.cholesky_inverse(torch.linalg.cholesky(matrix.float()))
    error = (inverse(matrix.float(), "pray") - exact).abs().max()
    assert error <= 2 * (lapack - exact).abs().max()


@pytest.mark.parametrize("n", [2, 5])
def test_what_cannot_be_inverted_is_refused(monkeypatch, n):
    monkeypatch.setattr(module, "_WIDTH", 2)
    matrix = torch.eye(n)
    matrix[-1, -1] = 0.0
    with pytest.raises(ConfigError, match="cannot be inverted: set a larger rho"):
        inverse(matrix, "set a larger rho")


def test_a_bar_shows_after_two_seconds_alone(monkeypatch, capsys):
    inverse(torch.eye(3), "pray", quiet=False)
    assert not capsys.readouterr().err
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    inverse(torch.eye(3), "pray", quiet=False)
    assert "Inverse: 100%" in capsys.readouterr().err
    inverse(torch.eye(3), "pray")
    assert not capsys.readouterr().err
