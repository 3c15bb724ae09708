"""Rows of tapped tensors paired with ids, by hand."""

from __future__ import annotations

import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_llmkt.transfer.inspection.layers import Call
from recbole_llmkt.transfer.inspection.rows import (
    Entities,
    FieldFirstRows,
    FieldRows,
    FlatRows,
    LookupRows,
    NodeRows,
    TableRows,
    TimeRows,
)
from recbole_llmkt.utils.exceptions import RowsError

N_USERS, N_ITEMS, DIM = 6, 9, 2
BATCH = Interaction(
    {
        "user_id": torch.tensor([3, 1, 5]),
        "item_id": torch.tensor([2, 8, 4]),
        "neg_item_id": torch.tensor([7, 1, 1]),
    }
)


def entities(entity: str, batch: Interaction = BATCH) -> Entities:
    fields = ("user_id",) if entity == "user" else ("item_id", "neg_item_id")
    fields = tuple(name for name in fields if name in batch.interaction)
    own = (f"{entity}_id",)
    return Entities(
        entity=entity,
        id_field=own[0],
        id_fields=fields,
        list_fields=(),
        own_fields=own,
        state_fields=own,
        n=N_USERS if entity == "user" else N_ITEMS,
        n_users=N_USERS,
        n_items=N_ITEMS,
    )


def numbered(*shape: int) -> torch.Tensor:
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)


def align(rows, value, ids=None, batch=BATCH):
    hidden, aligned = rows.align([Call(value, ids)], batch)
    return hidden.tolist(), aligned.tolist()


def test_a_table_is_read_at_the_ids_of_the_batch():
    table = numbered(N_USERS, DIM)
    assert align(TableRows(entities("user")), table) == ([[6, 7], [2, 3], [10, 11]], [3, 1, 5])


def test_a_table_of_items_is_read_at_positives_and_negatives():
    table = numbered(N_ITEMS, 1)
    hidden, ids = align(TableRows(entities("item")), table)
    assert ids == [2, 8, 4, 7, 1, 1] and [value for (value,) in hidden] == ids


def test_nodes_are_users_first_then_items():
    graph = numbered(N_USERS + N_ITEMS, 1)
    assert align(NodeRows(entities("user")), graph) == ([[3], [1], [5]], [3, 1, 5])
    hidden, ids = align(NodeRows(entities("item")), graph)
    assert ids == [2, 8, 4, 7, 1, 1] and [value for (value,) in hidden] == [
        i + N_USERS for i in ids
    ]


def test_a_table_where_the_batch_holds_no_ids_of_the_entity_is_read_whole():
    autoencoder = Interaction({"user_id": torch.tensor([3, 1])})
    rows = TableRows(entities("item", autoencoder))
    _, ids = align(rows, numbered(N_ITEMS, 1), batch=autoencoder)
    assert ids == list(range(1, N_ITEMS))


def test_a_lookup_says_itself_whose_rows_these_are():
    rows = LookupRows(entities("user"))
    asked = torch.tensor([5, 5, 2])
    assert align(rows, numbered(3, DIM), asked) == ([[0, 1], [2, 3], [4, 5]], [5, 5, 2])


def test_a_shared_lookup_leaves_other_entities_out():
    rows = LookupRows(entities("user"), offset=4, shared=True)
    asked = torch.tensor([7, 1, 12, 9])  # users 3, -3, 8 (too many), 5
    assert align(rows, numbered(4, 1), asked) == ([[0], [3]], [3, 5])


def test_a_lookup_of_several_fields_takes_its_own_column():
    rows = LookupRows(entities("item"), offset=6, column=1)
    asked = torch.tensor([[3, 8], [1, 14]])
    assert align(rows, numbered(2, 2, 1), asked) == ([[1], [3]], [2, 8])


def test_several_calls_are_put_together():
    rows = LookupRows(entities("user"))
    calls = [Call(numbered(1, 1), torch.tensor([2])), Call(numbered(2, 1), torch.tensor([4, 1]))]
    hidden, ids = rows.align(calls, BATCH)
    assert hidden.tolist() == [[0], [0], [1]] and ids.tolist() == [2, 4, 1]


def test_a_field_is_one_column_or_one_slice():
    value = numbered(3, 4, DIM)
    expected = (value[:, 2].tolist(), [3, 1, 5])
    assert align(FieldRows(entities("user"), 2), value) == expected
    assert align(FieldFirstRows(entities("user"), 2), value.transpose(0, 1)) == expected
    assert align(FlatRows(entities("user"), 2), value.reshape(12, DIM)) == expected


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


@pytest.mark.parametrize(
    ("rows", "value"),
    [
        (TableRows(entities("user")), numbered(3, DIM)),
        (NodeRows(entities("item")), numbered(N_USERS, DIM)),
        (FieldRows(entities("user"), 4), numbered(3, 4, DIM)),
        (FieldFirstRows(entities("user"), 1), numbered(2, 4, DIM)),
        (FlatRows(entities("user"), 1), numbered(7, DIM)),
        (LookupRows(entities("user")), numbered(3, DIM)),
        (TimeRows(entities("user"), "last"), numbered(3, DIM)),
    ],
    ids=lambda rows: getattr(rows, "meaning", ""),
)
def test_a_misfit_names_the_shape_and_the_mend(rows, value):
    with pytest.raises(RowsError, match=r"the layer gives the shape \(.*Choose another kt_rows"):
        rows.align([Call(value)], BATCH)
