"""Which user or item a row belongs to: found by experiment, or believed.

One small model shows the layer whatever a test wants.
"""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from recbole.data.interaction import Interaction
from torch import nn

from recbole_llmkt.transfer.inspection.layers import Layer
from recbole_llmkt.transfer.inspection.probe import Probe
from recbole_llmkt.transfer.inspection.row_inference import (
    check_gradient,
    infer_rows,
    probed_layers,
    token_fields,
)
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
from recbole_llmkt.transfer.inspection.time_rows import TimeRows
from recbole_llmkt.utils.exceptions import LayerError, RowsError

N_USERS, N_ITEMS, WIDTH, LENGTH = 20, 30, 4, 5


class Zoo(nn.Module):
    """Tables of users, items and both, and a layer that shows what ``act`` makes of a batch."""

    def __init__(self, act, names=("user_id", "item_id")):
        super().__init__()
        self.users, self.items = nn.Embedding(N_USERS, WIDTH), nn.Embedding(N_ITEMS, WIDTH)
        self.nodes = nn.Embedding(N_USERS + N_ITEMS, WIDTH)
        self.layer = nn.Identity()
        self.idle = nn.Linear(WIDTH, WIDTH)
        self.act, self.token_field_names = act, list(names)

    def calculate_loss(self, batch):
        self.act(self, batch)
        return sum(table.weight.sum() for table in (self.users, self.items, self.nodes))

    def fields(self, batch):
        """Return the states of the user and of the item: shape (B, 2, d)."""
        return torch.stack([self.users(batch["user_id"]), self.items(batch["item_id"])], 1).tanh()


class Loader:
    """Forty examples; RecBole's loaders are read in the same way."""

    sample_size = 40
    config: ClassVar = {"kt_pool": "mean"}

    def collate_fn(self, rows):
        rows = torch.from_numpy(rows)
        steps = torch.arange(LENGTH)
        return Interaction(
            {
                "user_id": 1 + rows * 7 % (N_USERS - 1),
                "item_id": 1 + rows * 11 % (N_ITEMS - 1),
                "neg_item_id": 1 + rows * 13 % (N_ITEMS - 1),
                "item_id_list": 1 + (rows[:, None] * 17 + steps) % (N_ITEMS - 1),
            }
        )


def described(entity, **changes):
    ids = {"user": ("user_id",), "item": ("item_id", "neg_item_id")}[entity]
    values = {
        "entity": entity,
        "id_field": ids[0],
        "id_fields": ids,
        "list_fields": ("item_id_list",) if entity == "item" else (),
        "own_fields": ids[:1],
        "state_fields": ("user_id", "item_id_list") if entity == "user" else ids,
        "n": N_USERS if entity == "user" else N_ITEMS,
        "n_users": N_USERS,
        "n_items": N_ITEMS,
    }
    return Entities(**{**values, **changes})


def shown(
    act, entity="user", layer="layer", wanted="auto", names=("user_id", "item_id"), **changes
):
    """Infer the rows of a layer of a model that does ``act`` with a batch."""
    spec, model = Layer.parse(layer), Zoo(act, names)
    probe = Probe(model, Loader(), probed_layers(model, [spec]))
    rows = infer_rows(probe, spec, described(entity, **changes), wanted)
    assert rows.entities == described(entity, **changes)
    return rows


def is_lookup(rows, offset=0, column=None, shared=False):
    return type(rows) is LookupRows and (rows.offset, rows.column, rows.shared) == (
        offset,
        column,
        shared,
    )


@pytest.mark.parametrize(
    ("asked", "entity", "offset", "column", "shared"),
    [
        (lambda b: b["user_id"], "user", 0, None, True),
        (lambda b: b["user_id"][:-1], "user", 0, None, True),  # the last row left out
        (lambda b: torch.cat([b["user_id"]] * 2), "user", 0, None, True),
        (lambda b: b["item_id"] + N_USERS, "item", N_USERS, None, True),
        (lambda b: torch.cat([b["item_id"], b["neg_item_id"]]), "item", 0, None, True),
        (lambda b: b["item_id_list"] + 3, "item", 3, None, True),
        (lambda b: torch.stack([b["item_id"], b["user_id"] + 9], 1), "user", 9, 1, False),
        (lambda b: torch.stack([b["item_id"] + 2, b["user_id"]], 1), "item", 2, 0, False),
    ],
)
def test_a_table_is_asked_for_the_entity(asked, entity, offset, column, shared):
    rows = shown(lambda model, batch: model.nodes(asked(batch)), entity, "nodes")
    assert is_lookup(rows, offset, column, shared)


@pytest.mark.parametrize("wanted", ["auto", "lookup"])
def test_a_table_of_the_entity_alone_is_not_shared(wanted):
    rows = shown(lambda model, batch: model.users(batch["user_id"]), layer="users", wanted=wanted)
    assert is_lookup(rows)


def test_a_call_for_the_entity_alone_says_more_than_one_for_several():
    def act(model, batch):
        model.nodes(torch.stack([batch["user_id"], batch["item_id"] + N_USERS], 1))
        model.nodes(batch["user_id"])

    assert is_lookup(shown(act, layer="nodes"), shared=True)


@pytest.mark.parametrize(
    "asked",
    [
        lambda b: [torch.full_like(b["user_id"], 3)],  # one id tells nothing
        lambda b: [b["user_id"].flip(0)],
        lambda b: [torch.cat([b["user_id"], b["user_id"][:3]])],
        lambda b: [b["user_id"] + len(b)],  # another offset with each batch
        lambda b: [b["user_id"], b["user_id"] + 3],  # two offsets
        lambda b: [b["item_id"]],
    ],
    ids=["one", "flipped", "longer", "moving", "twice", "items"],
)
def test_a_table_that_is_asked_for_others_is_refused(asked):
    def act(model, batch):
        for ids in asked(batch):
            model.nodes(ids)

    with pytest.raises(RowsError, match="which user each row of 'nodes'"):
        shown(act, layer="nodes")


def test_tables_and_graphs_are_told_by_their_length():
    def graph(model, batch):
        model.layer(torch.cat([model.users.weight, model.items.weight]).tanh())

    assert [type(shown(graph, entity)) for entity in ("user", "item")] == [NodeRows, NodeRows]
    assert shown(graph, "item").offset == N_USERS
    rows = shown(lambda model, batch: model.layer(model.items.weight.tanh()), "item")
    assert type(rows) is TableRows and rows.offset == 0
    with pytest.raises(RowsError):  # numbers are no states
        shown(lambda model, batch: model.layer(model.users.weight.sum(1)))


def test_a_parameter_begins_where_its_table_is_asked():
    rows = shown(lambda m, batch: m.nodes(batch["item_id"] + N_USERS), "item", "nodes.weight")
    assert type(rows) is TableRows and rows.offset == N_USERS
    never_asked = shown(lambda model, batch: None, layer="users.weight")
    assert type(never_asked) is TableRows and never_asked.offset == 0


def test_a_table_of_as_many_users_as_items_is_not_guessed():
    def act(model, batch):
        model.layer(model.users.weight.tanh())
        model.users(batch["user_id"])

    with pytest.raises(
        RowsError, match=r"'layer' has 20 rows and .* set kt_rows: table if .* users"
    ):
        shown(act, n_items=N_USERS)
    assert type(shown(act, wanted="table", n_items=N_USERS)) is TableRows
    assert type(shown(act, layer="users.weight", n_items=N_USERS)) is TableRows


def test_each_call_of_a_batch_has_its_field():
    def items(model, batch):
        for name in ("neg_item_id", "item_id"):
            model.layer(model.items(batch[name]).tanh())

    rows = shown(items, "item")
    assert type(rows) is BatchRows and rows.fields == ("neg_item_id", "item_id")

    def users(model, batch):
        states = model.users(batch["user_id"]).tanh()
        model.layer(states.flip(0))
        model.layer(states)

    assert shown(users).fields == (None, "user_id")  # the first is somebody else's
    sequences = shown(lambda m, batch: m.layer(m.items(batch["item_id_list"]).mean(1)))
    assert sequences.fields == ("user_id",)  # told by the user's sequence alone


@pytest.mark.parametrize(
    "act",
    [
        lambda model, batch: model.layer(model.users(batch["user_id"]).tanh().flip(0)),
        lambda model, batch: [
            model.layer(model.users(batch["user_id"]).tanh()[:, :n]) for n in (4, 2)
        ],
        lambda model, batch: model.layer(model.users(batch["user_id"]).tanh()[:5]),
    ],
    ids=["flipped", "two widths", "five rows"],
)
def test_what_does_not_follow_the_batch_is_refused(act):
    with pytest.raises(RowsError, match="which user each row of 'layer'"):
        shown(act)


@pytest.mark.parametrize("wanted", ["auto", "batch", "field", "flat", "time"])
def test_without_the_entitys_ids_no_row_is_told_by_the_batch(wanted):
    def batch_rows(model, batch):
        model.layer(model.users(batch["user_id"]).tanh())

    def flat_rows(model, batch):
        model.layer(model.fields(batch).flatten(0, 1))

    for act in (batch_rows, flat_rows):
        with pytest.raises(RowsError, match="which user each row of 'layer'"):
            shown(act, wanted=wanted, id_fields=())


KINDS = [
    (lambda value: value, FieldRows),
    (lambda value: value.transpose(0, 1), FieldFirstRows),
    (lambda value: value.flatten(0, 1), FlatRows),
]


@pytest.mark.parametrize(("lay", "kind"), KINDS)
def test_a_field_is_the_one_that_changes_with_its_ids(lay, kind):
    for column, entity in enumerate(("user", "item")):
        rows = shown(lambda model, batch: model.layer(lay(model.fields(batch))), entity)
        assert type(rows) is kind and rows.column == column


@pytest.mark.parametrize(("lay", "kind"), KINDS[:2])
def test_behind_a_layer_that_mixes_fields_recboles_order_tells(lay, kind):
    def act(model, batch):
        states = model.fields(batch)
        model.layer(lay(states + states.sum(1, keepdim=True)))

    swapped = ("item_id", "user_id")
    assert [shown(act, names=names).column for names in (("user_id", "item_id"), swapped)] == [0, 1]
    assert type(shown(act, "item")) is kind
    for names in (
        ("age", "item_id"),
        ("age", "user_id", "item_id"),
    ):  # unknown; more than there are
        with pytest.raises(RowsError, match="which user each row"):
            shown(act, names=names)


@pytest.mark.parametrize(
    "mixed",
    [
        lambda states: states.flip(0),
        lambda states: states + states.mean(0),  # every row depends on every row
        lambda states: states + states.sum(1, keepdim=True),  # and both fields on the user
        lambda states: torch.cat([states.flatten(0, 1), states[:1, 0]]).unsqueeze(1),
        lambda states: states[:11],  # as many with each batch
    ],
    ids=["flipped", "all rows", "both fields", "a row more", "as many"],
)
def test_flat_rows_that_mix_are_refused(mixed):
    with pytest.raises(RowsError, match="which user each row"):
        shown(lambda model, batch: model.layer(mixed(model.fields(batch)).flatten(0, 1)))


def test_sequences_are_told_by_their_ids_or_their_length():
    def lookup(model, batch):
        model.items(batch["item_id_list"])

    rows = shown(lookup, layer="items")
    assert type(rows) is TimeRows and rows.pool == "mean"

    def states(longer, calls=1):
        def act(model, batch):
            value = model.items(batch["item_id_list"]).tanh()
            for _ in range(calls):
                model.layer(torch.cat([value, value[:, :longer]], 1))

        return act

    for longer in (0, 1):  # BERT4Rec appends the item to predict
        assert type(shown(states(longer), max_length=LENGTH)) is TimeRows
    for act, changes in [
        (states(2), {"max_length": LENGTH}),
        (states(0), {"max_length": 0}),
        (states(0, calls=2), {"max_length": LENGTH}),
        (states(0), {"max_length": LENGTH, "id_fields": ()}),
    ]:
        with pytest.raises(RowsError, match="which user each row"):
            shown(act, **changes)
    with pytest.raises(RowsError, match="which item each row"):
        shown(states(0), "item", max_length=LENGTH)

    def of_the_item(model, batch):
        model.layer(model.items(batch["item_id"]).tanh()[:, None].expand(-1, LENGTH, -1))

    with pytest.raises(RowsError, match="which user each row"):  # no state of the user's
        shown(of_the_item, max_length=LENGTH)


@pytest.mark.parametrize(
    ("wanted", "kind", "facts"),
    [
        ("table", TableRows, {"offset": 0}),
        ("node", NodeRows, {"offset": N_USERS}),
        ("batch", BatchRows, {"fields": ("item_id",)}),
        ("lookup", LookupRows, {"offset": 0, "column": None, "shared": True}),
        ("time", TimeRows, {"pool": "mean"}),
        ("field", FieldRows, {"column": 1}),
        ("field_first", FieldFirstRows, {"column": 1}),
        ("flat", FlatRows, {"column": 1}),
    ],
)
def test_what_no_experiment_shows_is_believed(wanted, kind, facts):
    def act(model, batch):
        model.layer(model.items(batch["item_id"]).tanh().flip(0)[:7])

    rows = shown(act, "item", wanted=wanted)
    assert type(rows) is kind and {name: getattr(rows, name) for name in facts} == facts
    if wanted in ("field", "field_first", "flat"):
        with pytest.raises(RowsError, match=f"of 'layer' belongs to with kt_rows: {wanted}:"):
            shown(act, "item", wanted=wanted, names=("user_id",))


def test_the_refusal_says_what_was_seen_and_what_may_be_set():
    with pytest.raises(RowsError) as refused:
        shown(lambda model, batch: model.layer(model.users(batch["user_id"]).tanh().flip(0)))
    assert str(refused.value) == (
        "Cannot tell which user each row of 'layer' belongs to: it gave (11, 4) for 11 batch rows "
        "and (17, 4) for 17 batch rows (20 users, 30 items). Set kt_rows to one of lookup, table, "
        "node, batch, field, field_first, flat, time, or choose another kt_layer."
    )
    with pytest.raises(LayerError, match=r"^'idle' never runs in a training step of Zoo: choose a"):
        shown(lambda model, batch: None, layer="idle")


def test_a_gradient_reaches_the_parameters_behind_a_layer():
    def act(model, batch):
        model.layer(model.users(batch["user_id"]) * model.items(batch["item_id"]))
        model.layer(model.users(batch["user_id"]))
        model.idle(torch.ones(3, WIDTH))

    layer, data = Layer.parse("layer"), Layer.parse("idle@input")
    probe = Probe(Zoo(act), Loader(), [layer, data])
    assert check_gradient(probe, layer) == ["items.weight", "users.weight"]
    with pytest.raises(LayerError) as refused:
        check_gradient(probe, data)
    assert str(refused.value) == (
        "No gradient flows from 'idle@input' to any parameter of Zoo: a loss there would train "
        "nothing. Choose a layer behind a trained one; in a training stage that does not train "
        "such layers, set kt_enabled: False."
    )


def test_fields_are_in_the_order_of_recboles_embeddings():
    model = Zoo(None)
    assert token_fields(model) == ["user_id", "item_id"]
    model.token_seq_field_names = ["genres"]
    assert token_fields(model) == ["genres", "user_id", "item_id"]
    assert token_fields(nn.Identity()) == []  # no context model


def test_a_table_is_probed_with_the_module_that_owns_it():
    layers = [Layer.parse(path) for path in ("users.weight", "layer", "users", "idle.weight")]
    assert [str(layer) for layer in probed_layers(Zoo(None), layers)] == [
        "users.weight",
        "layer",
        "users",
        "idle.weight",
    ]
    assert probed_layers(Zoo(None), layers[:1]) == [layers[0], layers[2]]
