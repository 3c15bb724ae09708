"""Contrasts of two entities, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_llmkt.transfer.losses.base import Others
from recbole_llmkt.transfer.losses.contrast import GenerativeLoss, InfoNCELoss

AXES = torch.eye(2)
IDS = torch.tensor([1, 2])


@pytest.mark.parametrize("kind", [InfoNCELoss, GenerativeLoss])
def test_right_and_wrong_pairs(kind):
    loss = kind()
    loss.temperature = 0.5
    # Cosines 1 with the own target and 0 with the other's: log(e^2 + 1) - 2.
    right = math.log(math.exp(2) + 1) - 2
    assert loss(3 * AXES, 5 * AXES, IDS).item() == pytest.approx(right, abs=1e-6)
    wrong = math.log(math.exp(2) + 1)
    assert loss(AXES, AXES.flip(0), IDS).item() == pytest.approx(wrong, abs=1e-6)


def test_with_a_table_all_of_it_is_told_apart():
    loss = InfoNCELoss()
    loss.temperature = 1.0
    table = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    value = loss(AXES[:1], AXES[:1], IDS[:1], Others(table=table))
    assert value.item() == pytest.approx(math.log(math.e + 1 + math.exp(-1)) - 1, abs=1e-6)


def test_one_entity_alone_is_told_from_nobody():
    assert InfoNCELoss()(AXES[:1], AXES[1:], IDS[:1]).item() == pytest.approx(0.0, abs=1e-6)


def test_only_infonce_of_users_needs_the_whole_table():
    assert (InfoNCELoss.table_of, InfoNCELoss.masks) == (("user",), False)
    assert (GenerativeLoss.table_of, GenerativeLoss.masks) == ((), True)
