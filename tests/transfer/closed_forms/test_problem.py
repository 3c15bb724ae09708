"""What the models of closed form share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_llmkt.transfer.closed_forms import problem as module
from recbole_llmkt.transfer.closed_forms.problem import inverse
from recbole_llmkt.utils.exceptions import ConfigError
from tests.transfer.closed_forms.problems import problem, random_data

CLICKS, PROFILES = random_data()


@pytest.mark.parametrize("piece", [1, 20, 10_000])
def test_the_gram_matrix_is_the_same_in_any_blocks(monkeypatch, piece):
    monkeypatch.setattr(module, "_PIECE", piece)
    gram = problem("rows", 1.0, CLICKS, PROFILES).gram()
    assert gram.dtype == torch.float32
    np.testing.assert_array_equal(gram.numpy(), CLICKS.T @ CLICKS)


def test_blocks_cover_every_column_once(monkeypatch):
    monkeypatch.setattr(module, "_PIECE", 30)
    blocks = list(problem("rows", 1.0, CLICKS).blocks(8, "Items"))
    assert [column for block in blocks for column in block] == list(range(8))
    assert len(blocks) == 3


def test_a_bar_shows_after_two_seconds_alone(capsys, monkeypatch):
    given = problem("rows", 1.0, CLICKS, show_progress=True)
    assert list(given.bar([1, 2], "Items")) == [1, 2] and not capsys.readouterr().err
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    assert list(given.bar([1, 2], "Items")) == [1, 2] and "Items" in capsys.readouterr().err


def test_an_inverse_takes_the_place_of_its_matrix():
    matrix = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    inverted = inverse(matrix, "pray")
    assert inverted.data_ptr() == matrix.data_ptr()
    np.testing.assert_allclose(inverted, [[2 / 3, -1 / 3], [-1 / 3, 2 / 3]], atol=1e-6)
    with pytest.raises(ConfigError, match="cannot be inverted: set a larger rho"):
        inverse(torch.zeros(2, 2), "set a larger rho")
