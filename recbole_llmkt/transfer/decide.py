"""Decide what the rows of a layer mean, from experiments, once per run."""

from __future__ import annotations

from torch import nn

from recbole_llmkt.exceptions import LayerError, RowsError
from recbole_llmkt.transfer.finders import FINDERS, table_of, table_offset, token_fields
from recbole_llmkt.transfer.layers import Layer, parameters_reached
from recbole_llmkt.transfer.probe import Probe
from recbole_llmkt.transfer.rows import (
    BatchRows,
    Entities,
    FieldFirstRows,
    FieldRows,
    FlatRows,
    LookupRows,
    NodeRows,
    Rows,
    TableRows,
    TimeRows,
)


def probed_layers(model: nn.Module, layers: list[Layer]) -> list[Layer]:
    """Return the layers to probe: those asked for, and the modules that own their tables."""
    owners = [owner for owner in (table_of(model, layer) for layer in layers) if owner]
    return list(dict.fromkeys([*layers, *owners]))


def decide_rows(probe: Probe, layer: Layer, entities: Entities, wanted: str = "auto") -> Rows:
    """Decide what the rows of ``layer`` mean.

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
        rows = rows or _believed(probe, layer, entities, wanted)
    if rows is not None:
        if wanted == "auto":
            _check_sure(probe, layer, rows)
        return rows
    shapes = " and ".join(
        f"{tuple(one.calls[layer][0].value.shape)} for {one.size} batch rows"
        for one in probe.readings
    )
    raise RowsError(
        f"Cannot tell which {entities.entity} each row of '{layer}' belongs to"
        f"{'' if wanted == 'auto' else f' with kt_rows: {wanted}'}: it gave {shapes} "
        f"({entities.n_users} users, {entities.n_items} items). Set kt_rows to one of "
        f"{', '.join(FINDERS)} if you know, or choose another kt_layer."
    )


def _believed(probe: Probe, layer: Layer, entities: Entities, wanted: str) -> Rows | None:
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
    alike = rows.meaning == "table" and entities.n_users == entities.n_items
    if alike and table_offset(probe, layer, entities) is None:
        raise RowsError(
            f"'{layer}' has {entities.n} rows and there are as many users as items: say kt_rows: "
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
            "a loss there would train nothing. Choose a layer behind a trained one; in a stage of "
            "training that leaves such layers alone, set kt_enabled: False."
        )
    return sorted(set(reached))
