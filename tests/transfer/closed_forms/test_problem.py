"""What the models of closed form share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_llmkt.transfer.closed_forms import problem as module
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
