"""What single models of RecBole need beside the others."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recbole_llmkt.compat import forget_computed, trained_parts


def test_vectors_kept_from_one_evaluation_to_the_next_are_forgotten():
    model = nn.Linear(2, 2)
    weight = model.weight.clone()
    model.restore_user_e = torch.ones(3)
    model.restore_item_e = torch.ones(3)
    model.restore_flag = True
    model.other_parameter_name = ["restore_item_e"]  # what a checkpoint puts back itself
    forget_computed(model)
    assert model.restore_user_e is None
    assert torch.equal(model.restore_item_e, torch.ones(3))
    assert model.restore_flag is True
    assert torch.equal(model.weight, weight)


@pytest.mark.parametrize(
    ("model", "epoch", "end"),
    [("NCL", 0, -1), ("NCL", 19, -1), ("NCL", 20, None), ("BPR", 0, None)],
)
def test_only_ncl_leaves_a_part_of_its_loss_out_during_its_warm_up(model, epoch, end):
    assert trained_parts({"model": model, "warm_up_step": 20}, epoch) == end
