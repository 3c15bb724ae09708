"""States of histories, pooled, by hand."""

from __future__ import annotations

import pytest
import torch
from recbole.data.interaction import Interaction
from torch import nn

from recbole_llmkt.transfer.inspection.layers import Call
from recbole_llmkt.transfer.inspection.time_rows import TimeRows
from recbole_llmkt.utils.exceptions import RowsError
from tests.transfer.inspection.test_rows import BATCH, DIM, align, entities, numbered


def history(pool: str, lengths: list[int]):
    ids = torch.zeros(3, 4, dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = 1 + torch.arange(length)
    value = numbered(3, 4, 1)
    return align(TimeRows(entities("user"), pool), value, ids)


def test_time_pools_the_real_steps_only_and_leaves_out_who_has_none():
    hidden, ids = history("last", [2, 0, 4])
    assert ids == [3, 5] and hidden == [[1], [11]]
    hidden, _ = history("mean", [2, 1, 4])
    assert hidden == [[pytest.approx(0.5)], [4], [pytest.approx(9.5)]]


def test_time_pools_in_single_precision_under_autocast():
    ids = torch.tensor([[1, 2], [1, 2], [1, 2]])
    value = torch.full((3, 2, 1), 1.2345678)
    with torch.autocast("cpu", torch.bfloat16):
        hidden, _ = TimeRows(entities("user"), "last").align([Call(value, ids)], BATCH)
    assert torch.equal(hidden, value[:, 1])


def test_exponential_weights_halve_in_five_steps():
    (hidden, *_), _ = history("exponential", [2, 1, 1])
    ratio = 0.5 ** (1 / 5)
    assert hidden == [pytest.approx(1 / (1 + ratio))]  # states 0 and 1, the later one heavier


@pytest.mark.parametrize("pool", ["last", "mean", "exponential", "attention"])
def test_every_pool_of_one_step_is_that_step(pool):
    hidden, ids = history(pool, [1, 1, 1])
    assert hidden == [[0], [4], [8]] and ids == [3, 1, 5]


def test_a_misfit_names_the_shape_and_the_fix():
    with pytest.raises(RowsError, match=r"the layer gives the shape \(.*Choose another kt_rows"):
        TimeRows(entities("user"), "last").align([Call(numbered(3, DIM))], BATCH)


@pytest.mark.parametrize("same", [True, False], ids=["one history a user", "one a row"])
@pytest.mark.parametrize("pool", ["last", "mean", "exponential"])
def test_counted_histories_are_the_pooled_rows(pool, same):
    rng = torch.Generator().manual_seed(4)
    table = nn.Parameter(torch.randn(9, 3, generator=rng))
    users = torch.tensor([3, 1, 3, 5, 1, 3])
    histories = torch.tensor([[0] * 4, [4, 2, 0, 0], [0] * 4, [7, 8, 1, 2], [0] * 4, [0] * 4])
    ids = histories[users]
    if not same:
        ids[2] = torch.tensor([1, 0, 0, 0])
    batch, rows = Interaction({"user_id": users}), TimeRows(entities("user"), pool)
    weights = torch.randn(6, 3, generator=rng)
    hidden, aligned = rows.align([Call(table[ids], ids)], batch)
    (by_rows,) = torch.autograd.grad((hidden * weights[aligned]).sum(), table)
    pooled, owners, counts = rows.counted([Call(table[ids], ids, table)], batch)
    assert len(pooled) == (3 if same else 6)
    loss = (pooled * weights[owners] * counts.unsqueeze(1)).sum()
    torch.testing.assert_close(loss, (hidden * weights[aligned]).sum())
    torch.testing.assert_close(torch.autograd.grad(loss, table)[0], by_rows)


def test_attention_needs_the_states():
    ids = torch.ones(3, 4, dtype=torch.long)
    call = Call(numbered(3, 4, 1), ids, numbered(2, 1))
    assert TimeRows(entities("user"), "attention").counted([call], BATCH) is None
