"""Rows of tapped tensors paired with ids, by hand."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_llmkt.transfer.inspection.layers import Call
from recbole_llmkt.transfer.inspection.rows import (
    BatchRows,
    Entities,
    FieldFirstRows,
    FieldRows,
    FlatRows,
    LookupRows,
    NodeRows,
    TableRows,
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


def described(entity, batch, **keys):
    """Return the entities of a dataset whose users have an age, and items no features."""
    config = {
        "NEG_PREFIX": "neg_",
        "LIST_SUFFIX": "_list",
        "ITEM_LIST_LENGTH_FIELD": "item_length",
        "MAX_ITEM_LIST_LENGTH": 50,
        **keys,
    }
    dataset = SimpleNamespace(
        config=config,
        uid_field="user_id",
        iid_field="item_id",
        user_feat=Interaction({"user_id": torch.arange(N_USERS), "age": torch.ones(N_USERS)}),
        item_feat=None,
        user_num=N_USERS,
        item_num=N_ITEMS,
    )
    return Entities.of(dataset, entity, batch)


def columns(*names):
    return Interaction({name: torch.ones(2, dtype=torch.long) for name in names})


def test_a_users_state_depends_on_ids_features_and_sequences():
    batch = columns("user_id", "age", "item_id", "item_id_list", "item_length", "rating")
    assert described("user", batch) == Entities(
        entity="user",
        id_field="user_id",
        id_fields=("user_id",),
        list_fields=(),
        own_fields=("age", "user_id"),
        state_fields=("age", "item_id_list", "item_length", "user_id"),
        n=N_USERS,
        n_users=N_USERS,
        n_items=N_ITEMS,
        max_length=50,
        length_field="item_length",
    )


def test_an_items_state_depends_on_its_ids_alone():
    batch = columns("user_id", "age", "item_id", "neg_item_id", "item_id_list")
    assert described("item", batch) == Entities(
        entity="item",
        id_field="item_id",
        id_fields=("item_id", "neg_item_id"),
        list_fields=("item_id_list",),
        own_fields=("item_id",),
        state_fields=("item_id", "neg_item_id"),
        n=N_ITEMS,
        n_users=N_USERS,
        n_items=N_ITEMS,
        max_length=0,  # without lengths in the batch
        length_field="item_length",
    )


def test_the_names_of_sequences_are_the_configurations():
    batch = columns("item_id", "item_id_seen", "item_id_list")
    assert described("item", batch, LIST_SUFFIX="_seen").list_fields == ("item_id_seen",)
    assert described("item", batch, LIST_SUFFIX=None).list_fields == ("item_id_list",)
    assert described("item", batch, ITEM_LIST_LENGTH_FIELD=None).length_field == ""


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
    elsewhere = Interaction({"user_id": torch.empty(2, dtype=torch.long, device="meta")})
    assert rows.batch_ids(elsewhere).device.type == "meta"


def test_each_call_for_the_batch_follows_its_own_field():
    items = entities("item")
    rows = BatchRows(items, ["item_id", "neg_item_id"])
    assert rows.entities is items
    positives, negatives = [2, 8, 4], [7, 1, 1]
    calls = [Call(numbered(3, 2, 1) + 10 * place) for place in range(3)]
    hidden, ids = rows.align(calls, BATCH)
    assert ids.tolist() == positives + negatives + negatives  # the last field serves the rest
    assert hidden[::3].tolist() == [[0, 1], [10, 11], [20, 21]]
    others = BatchRows(items, ["neg_item_id", None, "item_id"])  # the second is somebody else's
    hidden, ids = others.align(calls, BATCH)
    assert ids.tolist() == negatives + positives
    assert hidden[::3].tolist() == [[0, 1], [20, 21]]
    always = BatchRows(items, ["item_id"])
    assert always.align(calls, BATCH)[1].tolist() == positives * 3
    short = Call(numbered(2, DIM))  # a last call with fewer rows
    assert rows.align([short], BATCH)[1].tolist() == positives[:2]


def test_a_lookup_says_itself_whose_rows_these_are():
    rows = LookupRows(entities("user"))
    asked = torch.tensor([5, 5, 2])
    assert align(rows, numbered(3, DIM), asked) == ([[0, 1], [2, 3], [4, 5]], [5, 5, 2])


def test_a_shared_lookup_leaves_other_entities_out():
    rows = LookupRows(entities("user"), offset=4, shared=True)
    asked = torch.tensor([7, 3, 10, 9, 4])  # users 3, -1, 6 (one too many), 5, 0 (the padding)
    assert align(rows, numbered(5, 1), asked) == ([[0], [3], [4]], [3, 5, 0])


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


def weighted(rows, calls, batch=BATCH):
    """Return each id's state and how many rows it stands for, of those that stand for any."""
    hidden, ids, counts = rows.counted(calls, batch)
    assert ids is None and len(hidden) == len(counts) == rows.entities.n
    ids = torch.arange(len(counts))
    used = counts > 0
    return dict(zip(ids[used].tolist(), zip(hidden[used].tolist(), counts[used].tolist())))


def repeated(*ids):
    return Interaction({"user_id": torch.tensor(ids)})


def test_counted_rows_of_a_table_stand_for_the_rows_of_the_batch():
    batch, table = repeated(3, 1, 3, 5, 3, 1), numbered(N_USERS, DIM)
    expected = {1: ([2, 3], 2), 3: ([6, 7], 3), 5: ([10, 11], 1)}
    users = entities("user", batch)
    assert weighted(TableRows(users), [Call(table)], batch) == expected
    shifted = torch.cat([torch.zeros(4, DIM), table, torch.ones(2, DIM)])
    assert weighted(TableRows(users, 4), [Call(shifted)], batch) == expected
    folded = Call(table.reshape(N_USERS, DIM, 1))
    assert weighted(TableRows(users), [folded], batch) == expected
    absent = repeated(1, 1, 1, 2, 2, 2)  # nobody with a later id
    assert set(weighted(TableRows(users), [Call(table)], absent)) == {1, 2}


def test_counted_rows_of_lookups_are_those_of_their_table():
    users, table = entities("user"), numbered(N_USERS + 4, DIM)
    ids = torch.tensor([7, 5, 9, 7])  # users 3, 1, 5 and 3 behind four others
    calls = [Call(table[ids], ids, table), Call(table[ids[:3]], ids[:3], table)]
    expected = {1: ([10, 11], 2), 3: ([14, 15], 3), 5: ([18, 19], 2)}
    assert weighted(LookupRows(users, offset=4), calls) == expected
    among = torch.cat([ids, torch.tensor([0, 3, 2])])  # others, left out
    calls = [Call(table[among], among, table), calls[1]]
    assert weighted(LookupRows(users, offset=4, shared=True), calls) == expected
    fields = torch.stack([torch.zeros(7, dtype=torch.long), torch.cat([ids, ids[:3]])], dim=1)
    calls = [Call(table[fields], fields, table)]
    assert weighted(LookupRows(users, offset=4, column=1), calls) == expected


def test_few_rows_of_a_large_table_are_not_counted():
    table, ids = numbered(N_USERS, DIM), torch.tensor([3, 1, 5])
    assert TableRows(entities("user")).counted([Call(table)], BATCH) is None
    call = Call(table[ids], ids, table)
    assert LookupRows(entities("user")).counted([call], BATCH) is None
    assert LookupRows(entities("user")).counted([], BATCH) is None
    assert LookupRows(entities("user")).counted([Call(table[ids], ids)], BATCH) is None
    assert BatchRows(entities("user"), ["user_id"]).counted([Call(table[ids])], BATCH) is None


FIRST_AXIS = "whose first axis is the batch"
FIELDS = "of shape (batch, fields, width)"
FIELDS_FIRST = "of shape (fields, batch, width)"
FLAT = "of shape (batch * fields, width)"


@pytest.mark.parametrize(
    ("rows", "value", "needs"),
    [
        (BatchRows(entities("user"), ["user_id"]), numbered(3), FIRST_AXIS),
        (BatchRows(entities("user"), ["user_id"]), numbered(4, DIM), FIRST_AXIS),
        (TableRows(entities("user")), numbered(3, DIM), "with 6 rows"),
        (NodeRows(entities("item")), numbered(N_USERS, DIM), "with 9 rows"),
        (FieldRows(entities("user"), 4), numbered(3, 4, DIM), FIELDS),
        (FieldRows(entities("user"), 1), numbered(3, 4), FIELDS),
        (FieldFirstRows(entities("user"), 1), numbered(2, 4, DIM), FIELDS_FIRST),
        (FieldFirstRows(entities("user"), 1), numbered(1, 3, DIM), FIELDS_FIRST),
        (FieldFirstRows(entities("user"), 1), numbered(4, 3), FIELDS_FIRST),
        (FlatRows(entities("user"), 1), numbered(7, DIM), FLAT),
        (FlatRows(entities("user"), 2), numbered(6, DIM), FLAT),
        (LookupRows(entities("user")), numbered(3, DIM), "that an nn.Embedding looked up"),
    ],
    ids=lambda rows: getattr(rows, "meaning", ""),
)
def test_a_misfit_names_the_shape_and_the_fix(rows, value, needs):
    said = f"kt_rows: {rows} needs a tensor {needs}, but the layer gives the shape ({len(value)},"
    with pytest.raises(RowsError, match=rf"^{re.escape(said)}.*Choose another kt_rows"):
        rows.align([Call(value)], BATCH)
