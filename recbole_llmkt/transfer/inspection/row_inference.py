"""Find what the rows of a layer mean: one short experiment for each meaning."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from recbole_llmkt.transfer.inspection.layers import Call, Layer, Tap, parameters_reached
from recbole_llmkt.transfer.inspection.probe import Probe, Reading
from recbole_llmkt.transfer.inspection.rows import (
    BatchRows,
    Entities,
    FieldFirstRows,
    FieldRows,
    FlatRows,
    LookupRows,
    NodeRows,
    Rows,
    TableRows,
)
from recbole_llmkt.transfer.inspection.time_rows import TimeRows
from recbole_llmkt.utils.exceptions import LayerError, RowsError

Finder = Callable[[Probe, Layer, Entities], "Rows | None"]


def table_of(model: nn.Module, layer: Layer) -> Layer | None:
    """Return the ``nn.Embedding`` whose table the layer is, if it is one."""
    tap = Tap(model, layer)
    is_table = tap.is_parameter and isinstance(tap.owner, nn.Embedding)
    return Layer(layer.path.rpartition(".")[0]) if is_table else None


def _offset(ids: Tensor, column: Tensor) -> int | None:
    """Return the constant difference between recorded ids and a batch's column, both flat."""
    if len(torch.unique(ids)) < 2:
        return None
    # Models that score the positive and the negative at once ask for their users twice.
    times, rest = divmod(len(ids), len(column))
    column = column.repeat(times) if times and not rest else column
    if len(ids) > len(column):
        return None
    differences = torch.unique(ids - column[: len(ids)])
    return int(differences[0]) if len(differences) == 1 else None


def _matches(call: Call, reading: Reading, entities: Entities) -> set[tuple[int, int | None]]:
    """List the (offset, column) under which the recorded ids are the batch's own ids."""
    if call.ids is None:
        return set()
    matches: set[tuple[int, int | None]] = set()
    offsets: list[tuple[int | None, int | None]]
    columns = [reading.interaction[name] for name in entities.id_fields + entities.list_fields]
    if len(entities.id_fields) > 1:
        columns.append(torch.cat([reading.interaction[name] for name in entities.id_fields]))
    for column in columns:
        if call.ids.dim() == 2 and column.dim() == 1:
            places = range(call.ids.shape[1])
            offsets = [(_offset(call.ids[:, place], column), place) for place in places]
        else:
            offsets = [(_offset(call.ids.flatten(), column.flatten()), None)]
        matches |= {(offset, place) for offset, place in offsets if offset is not None}
    return matches


def recorded_place(probe: Probe, layer: Layer, entities: Entities) -> tuple[int, int | None] | None:
    """Return (offset, column) of the entity in a table, where both batches show the same one."""
    per_reading = [
        set().union(*(_matches(call, reading, entities) for call in reading.calls[layer]))
        for reading in probe.readings
        if reading.calls[layer]
    ]
    common = set.intersection(*per_reading) if per_reading else set()
    # A call for the entity alone says more than a column of a call for several.
    whole = {place for place in common if place[1] is None}
    common = whole or common
    return common.pop() if len(common) == 1 else None


def _find_lookup(probe: Probe, layer: Layer, entities: Entities) -> Rows | None:
    place = recorded_place(probe, layer, entities)
    if place is None:
        return None
    table = Tap(probe.shadow, layer).place
    assert isinstance(table, nn.Embedding), "only a table is asked for ids"
    shared = place[1] is None and table.num_embeddings > entities.n
    return LookupRows(entities, place[0], place[1], shared)


def _find_table(probe: Probe, layer: Layer, entities: Entities) -> Rows | None:
    first, second = probe.lengths(layer, 0)
    if first != second:
        return None
    offset = table_offset(probe, layer, entities)
    if offset is not None:
        return TableRows(entities, offset)
    if first != entities.n or probe.readings[0].calls[layer][0].value.dim() < 2:
        return None
    return TableRows(entities)


def table_offset(probe: Probe, layer: Layer, entities: Entities) -> int | None:
    """Return where the entity's rows begin in the layer's ``nn.Embedding``, if it is one."""
    owner = table_of(probe.shadow, layer)
    place = recorded_place(probe, owner, entities) if owner is not None else None
    return None if place is None else place[0]


def _find_node(probe: Probe, layer: Layer, entities: Entities) -> Rows | None:
    first, second = probe.lengths(layer, 0)
    is_graph = first == second == entities.n_users + entities.n_items
    return NodeRows(entities) if is_graph else None


def _is_state(probe: Probe, layer: Layer, n_axes: int) -> bool:
    """Tell whether all calls hold computed states of one shape: no rows of an embedding table."""
    calls = probe.readings[0].calls[layer]
    shapes = {tuple(call.value.shape) for call in calls}
    return len(shapes) == 1 and calls[0].value.dim() == n_axes and calls[0].ids is None


def _all_follow(probe: Probe, layer: Layer, axis: int, entities: Entities) -> bool:
    return all(probe.follows_batch(layer, axis, entities.state_fields))


def _find_batch(probe: Probe, layer: Layer, entities: Entities) -> Rows | None:
    calls = probe.readings[0].calls[layer]
    if not _is_state(probe, layer, 2) or not entities.id_fields:
        return None
    follows = probe.follows_batch(layer, 0, entities.state_fields)
    if not any(follows):
        return None
    # A call that does not follow holds somebody else's states, as FEARec's drawn positives.
    fields = [
        _call_field(probe, layer, entities, number) if follows[number] else None
        for number in range(len(calls))
    ]
    return BatchRows(entities, fields)


def _call_field(probe: Probe, layer: Layer, entities: Entities, number: int) -> str:
    """Return the id field that call ``number`` depends on (the positive's where on none)."""
    for name in entities.id_fields:
        if probe.changed(layer, 0, [0], [name])[number]:
            return name
    return entities.id_fields[0]


def _own_position(probe: Probe, layer: Layer, axis: int, entities: Entities) -> int | None:
    """Return the position of ``axis`` that holds the entity's own field.

    It is the one that changes when only the ids change; behind a layer that mixes the fields, it
    is the one at RecBole's own place of the field.
    """
    if not entities.id_fields:
        return None
    every_row = range(probe.readings[0].size)
    changed = set().union(*probe.changed(layer, axis, every_row, [entities.id_field]))
    if len(changed) == 1:
        return changed.pop()
    names, length = token_fields(probe.model), probe.lengths(layer, axis)[0]
    if entities.id_field in names and length >= len(names) and changed == set(range(length)):
        return names.index(entities.id_field)
    return None


def token_fields(model: nn.Module) -> list[str]:
    """List the fields of RecBole's context models in the order of their embeddings."""
    names = list(getattr(model, "token_seq_field_names", []))
    return names + list(getattr(model, "token_field_names", []))


def _find_field(probe: Probe, layer: Layer, entities: Entities) -> Rows | None:
    if not _is_state(probe, layer, 3) or not _all_follow(probe, layer, 0, entities):
        return None
    position = _own_position(probe, layer, 1, entities)
    return None if position is None else FieldRows(entities, position)


def _find_field_first(probe: Probe, layer: Layer, entities: Entities) -> Rows | None:
    if not _is_state(probe, layer, 3) or not _all_follow(probe, layer, 1, entities):
        return None
    position = _own_position(probe, layer, 0, entities)
    return None if position is None else FieldFirstRows(entities, position)


def _find_flat(probe: Probe, layer: Layer, entities: Entities) -> Rows | None:
    value = probe.readings[0].calls[layer][0].value
    sizes = [reading.size for reading in probe.readings]
    n_fields, rest = divmod(len(value), sizes[0])
    if (
        not _is_state(probe, layer, 2)
        or not entities.id_fields
        or rest
        or n_fields < 2
        or probe.lengths(layer, 0)[1] != n_fields * sizes[1]
    ):
        return None
    if probe.changed(layer, 0, [1])[0] - set(range(n_fields, 2 * n_fields)):
        return None
    own = probe.changed(layer, 0, [1], [entities.id_field])[0]
    return FlatRows(entities, own.pop() - n_fields) if len(own) == 1 else None


def _find_time(probe: Probe, layer: Layer, entities: Entities) -> Rows | None:
    calls = probe.readings[0].calls[layer]
    value, ids = calls[0].value, calls[0].ids
    if entities.entity != "user" or len(calls) != 1 or value.dim() != 3 or not entities.id_fields:
        return None
    # An embedding's ids tell the padding; a computed state needs the batch's sequence lengths
    # (BERT4Rec and its kin append a position for the item to predict).
    by_ids = ids is not None and ids.dim() == 2
    by_length = entities.max_length and value.shape[1] - entities.max_length in (0, 1)
    if not (by_ids or by_length) or not _all_follow(probe, layer, 0, entities):
        return None
    return TimeRows(entities, str(probe.train_data.config["kt_pool"]))


# In the order in which they are tried.
FINDERS: dict[str, Finder] = {
    "lookup": _find_lookup,
    "table": _find_table,
    "node": _find_node,
    "batch": _find_batch,
    "field": _find_field,
    "field_first": _find_field_first,
    "flat": _find_flat,
    "time": _find_time,
}


def probed_layers(model: nn.Module, layers: list[Layer]) -> list[Layer]:
    """Return the layers to probe: those asked for, and the modules that own their tables."""
    owners = [owner for owner in (table_of(model, layer) for layer in layers) if owner]
    return list(dict.fromkeys([*layers, *owners]))


def infer_rows(probe: Probe, layer: Layer, entities: Entities, wanted: str = "auto") -> Rows:
    """Infer what the rows of ``layer`` mean.

    Parameters
    ----------
    probe : Probe
        Experiments that include the layer and, for a table, its module (:func:`probed_layers`).
    layer : Layer
        The layer.
    entities : Entities
        Whose hidden states are looked for.
    wanted : str
        ``kt_rows``: a meaning, or ``"auto"``.

    Raises
    ------
    LayerError
        The layer never runs.
    RowsError
        No meaning, or more than one, fits what the experiments showed.
    """
    if not probe.readings[0].calls[layer]:
        raise LayerError(
            f"'{layer}' never runs in a training step of {type(probe.model).__name__}: choose a "
            "layer that does (`llmkt layers` lists them)."
        )
    if wanted == "auto":
        tried = (find(probe, layer, entities) for find in FINDERS.values())
        rows = next(filter(None, tried), None)
    else:
        rows = FINDERS[wanted](probe, layer, entities)
        rows = rows or _believed(probe, entities, wanted)
    if rows is not None:
        if wanted == "auto":
            _check_sure(probe, layer, rows)
        return rows
    shapes = " and ".join(
        f"{tuple(reading.calls[layer][0].value.shape)} for {reading.size} batch rows"
        for reading in probe.readings
    )
    raise RowsError(
        f"Cannot tell which {entities.entity} each row of '{layer}' belongs to"
        f"{'' if wanted == 'auto' else f' with kt_rows: {wanted}'}: it gave {shapes} "
        f"({entities.n_users} users, {entities.n_items} items). Set kt_rows to one of "
        f"{', '.join(FINDERS)}, or choose another kt_layer."
    )


def _believed(probe: Probe, entities: Entities, wanted: str) -> Rows | None:
    """Take the user's word for a meaning that the experiments do not show."""
    if wanted in ("table", "node"):
        return TableRows(entities) if wanted == "table" else NodeRows(entities)
    if not entities.id_fields:
        return None
    if wanted == "batch":
        return BatchRows(entities, entities.id_fields[:1])
    if wanted == "lookup":
        return LookupRows(entities, shared=True)
    if wanted == "time":
        return TimeRows(entities, str(probe.train_data.config["kt_pool"]))
    names = token_fields(probe.model)
    if entities.id_field not in names:
        return None
    kinds = {"field": FieldRows, "field_first": FieldFirstRows, "flat": FlatRows}
    return kinds[wanted](entities, names.index(entities.id_field))


def _check_sure(probe: Probe, layer: Layer, rows: Rows) -> None:
    """Refuse to guess whose table it is where its length does not tell."""
    entities = rows.entities
    ambiguous = rows.meaning == "table" and entities.n_users == entities.n_items
    if ambiguous and table_offset(probe, layer, entities) is None:
        raise RowsError(
            f"'{layer}' has {entities.n} rows and there are as many users as items: set kt_rows: "
            f"table if they are {entities.entity}s."
        )


def check_gradient(probe: Probe, layer: Layer) -> list[str]:
    """Return the parameters that a loss at ``layer`` trains.

    Raises
    ------
    LayerError
        There are none: the layer holds data or constants.
    """
    reached: list[str] = []
    for call in probe.readings[0].calls[layer]:
        reached += parameters_reached(call.value, probe.shadow)
    if not reached:
        raise LayerError(
            f"No gradient flows from '{layer}' to any parameter of {type(probe.model).__name__}: "
            "a loss there would train nothing. Choose a layer behind a trained one; in a training "
            "stage that does not train such layers, set kt_enabled: False."
        )
    return sorted(set(reached))
