"""Losses of relations, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_llmkt.transfer.losses.base import Others
from recbole_llmkt.transfer.losses.structure import GramLoss, SoftRankLoss

AXES = torch.eye(2)
IDS = torch.tensor([1, 2])


def test_gram_is_zero_for_equal_relations_of_other_widths():
    same = torch.tensor([[0.0, 0.0, 4.0], [5.0, 0.0, 0.0]])
    assert GramLoss()(AXES, same, IDS).item() == pytest.approx(0.0, abs=1e-6)
    # Cosine 0 against 1 in two of four pairs.
    alike = torch.ones(2, 3)
    assert GramLoss()(AXES, alike, IDS).item() == pytest.approx(0.5, abs=1e-5)


def test_gram_of_many_rows_is_the_same_sum():
    generator = torch.Generator().manual_seed(3)
    hidden, target = (torch.randn(9, width, generator=generator) for width in (2, 3))
    z, p = (torch.nn.functional.normalize(rows) for rows in (hidden, target))
    expected = (z @ z.T - p @ p.T).square().mean()
    value = GramLoss()(hidden, target, torch.arange(9))
    assert value.item() == pytest.approx(expected.item(), rel=1e-4)


def softrank(hidden, partner_hidden, target=AXES[:1], ids=(5, 6)):
    loss = SoftRankLoss()
    loss.temperature = 1.0
    others = Others(None, partner_hidden, AXES, torch.tensor(ids))
    return loss(hidden, target, IDS[: len(hidden)], others).item()


def test_softrank_of_one_user_is_a_cross_entropy():
    # By profile the items score 1 and 0, by state 0 and 2.
    share = torch.softmax(torch.tensor([1.0, 0.0]), 0)
    log = torch.log_softmax(torch.tensor([0.0, 2.0]), 0)
    value = softrank(torch.tensor([[0.0, 2.0]]), AXES)
    assert value == pytest.approx(-(share * log).sum().item(), rel=1e-5)


def test_a_user_whose_profile_says_nothing_weighs_nothing():
    # The second user's profile is even between the items.
    target = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    hidden = torch.tensor([[1.0, 0.0], [100.0, -100.0]])
    assert softrank(hidden, AXES, target) == pytest.approx(softrank(hidden[:1], AXES), rel=1e-3)


def test_softrank_needs_partners_and_is_zero_without_any_in_the_batch():
    with pytest.raises(ValueError, match="needs the other entity's"):
        SoftRankLoss()(AXES, AXES, IDS, None)
    nobody = Others(None, torch.zeros(0, 2), torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    assert SoftRankLoss()(AXES, AXES, IDS, nobody).item() == 0.0
    assert softrank(AXES[:1], AXES, ids=(5, 5)) == pytest.approx(0.0, abs=1e-6)  # one item
    assert math.isfinite(softrank(1e3 * AXES[:1], AXES))
