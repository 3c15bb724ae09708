"""The catalog of a model's layers: every place that can be tapped, and its state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from recbole_llmkt.transfer.inspection.layers import Layer, Tap, parameters_reached, tappable
from recbole_llmkt.transfer.inspection.probe import (
    PROBE_SEED,
    Probe,
    make_batch,
    recommendation_loss,
    shadow_of,
)
from recbole_llmkt.transfer.inspection.row_inference import infer_rows, probed_layers
from recbole_llmkt.transfer.inspection.rows import Entities, Rows
from recbole_llmkt.utils.exceptions import LayerError, LLMKTError
from recbole_llmkt.utils.randomness import isolated_randomness
from recbole_llmkt.utils.types import Loader, Settings

# The width of the common small text encoders' embeddings.
MAX_WIDTH = 384


@dataclass(frozen=True)
class Place:
    """One place that can be tapped.

    Attributes
    ----------
    layer : str
        What to write as ``kt_layer``.
    kind : str
        ``output`` or ``input`` of a module, ``parameter``, or ``method``.
    module : str
        Class of the module, where it is one.
    shape : str
        Shape in symbols: B batch rows, U users, I items, N nodes (users and items), F fields,
        L sequence length; other axes as numbers. A last axis I is no width but scores of all items.
    rows : str
        What the rows mean (``kt_rows``); empty where no entity can be told.
    entity : str
        ``user`` or ``item``: whose state it is.
    pure : bool
        Whether the state does not depend on the other entity of the same batch row.
    width : int
        Width of the state.
    calls : int
        How often it runs in one step.
    reach : int
        Number of parameter values that a loss there would train.
    order : int
        When it is computed in the step, counted from 0.
    """

    layer: str
    kind: str
    module: str
    shape: str
    rows: str
    entity: str
    pure: bool
    width: int
    calls: int
    reach: int
    order: int

    def as_dict(self) -> Settings:
        """Return the place as plain values."""
        return asdict(self)


class _RawTap(Tap):
    """Record where tensors lie in the values that pass a place."""

    def __init__(self, model: nn.Module, layer: Layer, clock: Iterator[int]) -> None:
        super().__init__(model, layer)
        self.clock = clock
        self.moments: dict[tuple[int, ...], int] = {}

    def pick(self, value: object) -> Tensor:
        if self.layer.port == "input" and isinstance(value, tuple) and len(value) == 1:
            value = value[0]
        now = next(self.clock)
        for index, leaf in _leaves(value):
            if leaf.is_floating_point() and leaf.dim() >= 2:
                self.moments[index] = now
        return torch.empty(0)


def _is_loss(tap: Tap) -> bool:
    """Tell whether a place computes a loss, where there is nothing to reconstruct."""
    kind = type(tap.place)
    modules = ("recbole.model.loss", "torch.nn.modules.loss")
    return kind.__module__ in modules or (tap.layer.call and tap.name.startswith("calculate_"))


def _leaves(value: object, index: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    if isinstance(value, Tensor):
        yield index, value
    elif isinstance(value, (tuple, list)):
        for i, part in enumerate(value):
            yield from _leaves(part, (*index, i))


def discover(model: nn.Module, train_data: Loader) -> dict[Layer, int]:
    """List the layers that run in a training step and hold hidden states.

    Parameters
    ----------
    model : nn.Module
        The model; only a shadow of it is run.
    train_data : AbstractDataLoader
        RecBole's loader of the training split.

    Returns
    -------
    dict of Layer to int
        With the moment of its last call in the step.
    """
    with isolated_randomness(PROBE_SEED), ExitStack() as stack:
        shadow = shadow_of(model)
        Probe.ready(shadow)
        batch = make_batch(train_data, 11).to(next(model.parameters()).device)
        clock = iter(range(10**9))
        taps: list[_RawTap] = []
        for path in tappable(shadow):
            layer = Layer.parse(path)
            tap = _RawTap(shadow, layer, clock)
            if _is_loss(tap):
                continue
            taps.append(stack.enter_context(tap))
            if isinstance(taps[-1].place, nn.Module):
                entry = Layer(layer.path, port="input")
                taps.append(stack.enter_context(_RawTap(shadow, entry, clock)))
        recommendation_loss(shadow)(batch)
        moments = {}
        for raw in taps:
            if isinstance(raw.place, Tensor) and raw.place.dim() >= 2:
                moments[raw.layer] = -1
            for index, moment in raw.moments.items():
                leaf = Layer(raw.layer.path, raw.layer.call, raw.layer.port, index)
                moments[leaf] = moment
    return dict(sorted(moments.items(), key=lambda pair: pair[1]))


def catalog(model: nn.Module, train_data: Loader) -> list[Place]:
    """Describe every place of a model that can be tapped, in the order of a training step.

    Parameters
    ----------
    model : nn.Module
        The model; it is only read.
    train_data : AbstractDataLoader
        RecBole's loader of the training split.
    """
    moments = discover(model, train_data)
    probe = Probe(model, train_data, probed_layers(model, list(moments)))
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    places = []
    for layer, moment in moments.items():
        if probe.readings[0].calls[layer]:
            places += _places(probe, layer, moment, sizes)
    return places


def _places(probe: Probe, layer: Layer, moment: int, sizes: dict[str, int]) -> list[Place]:
    calls = probe.readings[0].calls[layer]
    reached = {name for call in calls for name in parameters_reached(call.value, probe.shadow)}
    if not reached:
        return []
    dataset = probe.train_data._dataset
    tap = Tap(probe.shadow, layer)
    kind = "parameter" if tap.is_parameter else "method" if layer.call else layer.port
    places: list[Place] = []
    for entity in ("user", "item"):
        entities = Entities.of(dataset, entity, probe.batches[0])
        try:
            rows = infer_rows(probe, layer, entities)
            hidden, _ = rows.align(calls, probe.readings[0].interaction)
        except LLMKTError:
            continue
        place = Place(
            str(layer),
            kind,
            type(tap.place).__name__ if isinstance(tap.place, nn.Module) else "",
            _symbols(probe, layer, entities),
            str(rows),
            entity,
            is_pure(probe, layer, rows),
            hidden.shape[1],
            len(calls),
            sum(sizes[name] for name in reached),
            moment,
        )
        # A state that mixes both is listed once, as the user's, unless only an item's row fits.
        if place.pure or not places:
            places.append(place)
    return places


def is_pure(probe: Probe, layer: Layer, rows: Rows) -> bool:
    """Tell whether the states stay the same when the other entity of every batch row changes."""
    if rows.meaning in ("table", "node", "lookup"):
        return True
    other = "item" if rows.entities.entity == "user" else "user"
    fields = Entities.of(probe.train_data._dataset, other, probe.batches[0])
    columns = sorted({*fields.id_fields, *fields.own_fields})
    if not columns:
        return True
    changed = probe.experiment(range(probe.readings[0].size), columns)
    before, after = (
        rows.align(reading.calls[layer], reading.interaction)[0]
        for reading in (probe.readings[0], changed)
    )
    return bool(torch.equal(before, after))


def _symbols(probe: Probe, layer: Layer, entities: Entities) -> str:
    first, second = (reading.calls[layer][0].value.shape for reading in probe.readings)
    names = {
        entities.n_users: "U",
        entities.n_items: "I",
        entities.n_users + entities.n_items: "N",
        entities.max_length or -1: "L",
        getattr(probe.model, "num_feature_field", -1): "F",
    }
    symbols = []
    for axis, (a, b) in enumerate(zip(first, second)):
        if a != b:
            per_row = a / probe.readings[0].size
            symbols.append("B" if per_row <= 1 else f"B*{per_row:g}")
        else:
            is_width = axis == len(first) - 1 and a != entities.n_items
            symbols.append(str(a) if is_width else names.get(a, str(a)))
    return "(" + ", ".join(symbols) + ")"


def automatic_layer(places: Sequence[Place], entity: str, max_width: int = MAX_WIDTH) -> str:
    """Choose a layer where neither the user nor ``properties/model`` names one.

    The rule: the widest state that is purely the entity's, and of those the one that trains the
    most parameters and is computed last, nearest to the prediction; else the entity's embedding
    table; else the last hidden layer. Scores of all items are no hidden state.

    Parameters
    ----------
    places : list of Place
        The model's catalog.
    entity : str
        ``user`` or ``item``.
    max_width : int
        Widest state to consider: a transform cannot widen a profile embedding.

    Raises
    ------
    LayerError
        No layer holds states of the entity.
    """
    fitting = [place for place in places if 1 < place.width <= max_width]
    computed = [place for place in fitting if place.kind != "parameter" and place.entity == entity]
    computed = [place for place in computed if not place.shape.endswith(" I)")]
    pure = [place for place in computed if place.pure]
    # The rows of a user's items are the user's state only where there is no other.
    pure = [place for place in pure if place.rows != "time" or place.module != "Embedding"] or pure
    tables = [place for place in fitting if place.kind == "parameter" and place.entity == entity]
    if pure:
        return max(pure, key=lambda place: (place.width, place.reach, place.order)).layer
    if tables:
        return max(tables, key=lambda place: place.width).layer
    if computed:
        return max(computed, key=lambda place: place.order).layer
    raise LayerError(
        f"No layer of this model holds states of {entity}s that a profile could be reconstructed "
        "in: its hidden layers have width 1, or their rows belong to no user or item."
    )
