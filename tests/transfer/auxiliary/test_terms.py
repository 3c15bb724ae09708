"""A term of the loss on a few rows, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from recbole_llmkt.transfer.auxiliary.terms import Term
from recbole_llmkt.transfer.inspection.layers import Layer
from recbole_llmkt.transfer.inspection.rows import Counted
from recbole_llmkt.transfer.losses import MSELoss, TransferLoss
from recbole_llmkt.transfer.targets.build import TargetTable

VALUES = torch.tensor([[9.0, 9.0], [1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
MASK = torch.tensor([False, True, False, True])  # id 2 has no profile


class FakeRows:
    """Pair the states that a tap recorded with ids."""

    def align(self, calls, interaction):
        return calls

    def batch_ids(self, interaction):
        return interaction

    def counted(self, calls, interaction):
        return None


class FakeTable(FakeRows):
    """Count the rows of a table of all ids."""

    def counted(self, calls, interaction):
        return Counted(calls[0], None, torch.bincount(calls[1], minlength=len(calls[0])))


class Remember(TransferLoss):
    """Keep what it is called with."""

    unique = True
    table_of = ("user",)

    def compute_among(self, hidden, target, ids, others):
        self.seen = hidden, target, ids, others
        return hidden.sum()


def term(loss, **changes):
    values = {
        "layer": Layer("x"),
        "rows": FakeRows(),
        "table": TargetTable(VALUES, MASK),
        "profiles": SimpleNamespace(entity="user", summary=lambda: {"entity": "user"}),
        "width": 2,
        "loss": loss,
        "weight": 1.0,
        "reached": [],
    }
    return Term(**{**values, **changes})


def tap(*ids):
    hidden = torch.arange(2.0 * len(ids)).view(-1, 2)
    return SimpleNamespace(calls=(hidden, torch.tensor(ids)))


def test_rows_without_a_profile_do_not_count():
    # Rows (0, 1) of id 1 and (4, 5) of id 3: errors (-1, 1) and (4, 3), squares 1, 1, 16, 9.
    assert term(MSELoss()).compute(tap(1, 2, 3), None).item() == pytest.approx(27 / 4)


def test_counted_rows_without_a_profile_do_not_count_either():
    hidden, ids = torch.arange(8.0).view(4, 2), torch.tensor([1, 3, 2, 3])
    calls = SimpleNamespace(calls=(hidden, ids))
    loss = term(MSELoss(), rows=FakeTable()).compute(calls, None)
    # Id 1 is (2, 3) against (1, 0), id 3 twice (6, 7) against (0, 2).
    assert loss.item() == pytest.approx((10 + 2 * 61) / 6)


def test_only_hidden_entities_count_where_any_are():
    masked = torch.tensor([3, 2])
    assert term(MSELoss()).compute(tap(1, 2, 3), None, masked=masked).item() == 25 / 2


def test_an_id_of_two_rows_is_one_and_the_table_is_of_known_ids():
    loss = Remember()
    term(loss).compute(tap(3, 1, 3), None)
    hidden, target, ids, others = loss.seen
    assert ids.tolist() == [1, 3]
    assert hidden.tolist() == [[2.0, 3.0], [2.0, 3.0]]  # of id 3 the mean of (0, 1) and (4, 5)
    assert target.tolist() == [[1.0, 0.0], [0.0, 2.0]]
    assert others.table.tolist() == [[1.0, 0.0], [0.0, 2.0]]


def test_a_projector_maps_states_or_targets():
    double = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        double.weight.copy_(2 * torch.eye(2))
    on_states = term(MSELoss(), projector=double).compute(tap(1), None)
    assert on_states.item() == pytest.approx(((0 - 1) ** 2 + (2 - 0) ** 2) / 2)
    on_targets = term(MSELoss(), projector=double, projects_target=True).compute(tap(1), None)
    assert on_targets.item() == pytest.approx(((0 - 2) ** 2 + (1 - 0) ** 2) / 2)
    assert list(term(MSELoss(), projector=double).learned()) == ["projector"]
    assert term(MSELoss()).learned() == {}


def test_a_guard_is_added_with_its_weight():
    def guard(hidden, target, ids):
        return hidden.sum()

    plain = term(MSELoss()).compute(tap(1), None)
    guarded = term(MSELoss(), regularizer=guard, regularizer_weight=0.5).compute(tap(1), None)
    assert guarded.item() == pytest.approx(plain.item() + 0.5)  # states (0, 1)


def test_without_a_mask_nobody_is_hidden():
    plain = term(MSELoss())
    assert plain.choose(torch.tensor([1, 3]), [0]) is None
    summary = plain.summary()
    assert (summary["layer"], summary["entity"], summary["masked_tables"]) == ("x", "user", [])
