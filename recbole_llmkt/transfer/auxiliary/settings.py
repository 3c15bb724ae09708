"""What ``kt_layer``, ``kt_rows``, ``kt_entity`` and ``kt_weight`` say: the terms of the loss."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from torch import nn

from recbole_llmkt.transfer.context import RunContext
from recbole_llmkt.transfer.inspection.catalog import Place, automatic_layer, catalog
from recbole_llmkt.transfer.inspection.layers import Layer
from recbole_llmkt.utils.entities import ENTITIES
from recbole_llmkt.utils.exceptions import ConfigError, LayerError
from recbole_llmkt.utils.types import Loader, RunConfig


@dataclass(frozen=True)
class TermSettings:
    """One layer that is to learn from profiles: what ``kt_*`` says of it."""

    layer: str
    rows: str
    entity: str
    weight: float


def term_settings(config: RunConfig) -> list[TermSettings]:
    """Read the terms of the transfer loss.

    ``kt_layer``, ``kt_rows``, ``kt_entity`` and ``kt_weight`` may each be one value or a list;
    one value holds for all terms, and one ``kt_weight`` is shared by them in equal parts.

    Raises
    ------
    ConfigError
        Lists of different lengths, or weights that add up to more than 1.
    """
    layer, rows, weight = config["kt_layer"], config["kt_rows"], config["kt_weight"]
    entity = ["user", "item"] if config["kt_entity"] == "both" else config["kt_entity"]
    given = {"kt_layer": layer, "kt_rows": rows, "kt_entity": entity, "kt_weight": weight}
    lengths = {
        name: len(value) for name, value in given.items() if isinstance(value, (list, tuple))
    }
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ConfigError(f"Lists of terms must have the same length, but {counts}.")
    count = next(iter(lengths.values()), 1)
    weights = list(weight) if isinstance(weight, (list, tuple)) else [weight / count] * count
    if sum(weights) > 1.0 + 1e-9:
        raise ConfigError(f"kt_weight: {weight} adds up to more than 1.")
    terms = zip(_each(layer, count), _each(rows, count), _each(entity, count), weights)
    return [TermSettings(*term) for term in terms if term[3] > 0.0]


def _each(value: str | list[str], count: int) -> list[str]:
    """Return a value for each term."""
    return list(value) if isinstance(value, (list, tuple)) else [value] * count


def default_layers(
    config: RunConfig, model: nn.Module, train_data: Loader, places: Sequence[Place] | None = None
) -> dict[str, str]:
    """Return what ``kt_layer: auto`` means for the run's model, for ``user`` and ``item``.

    ``properties/model/<Model>.yaml`` says it; for any other model the rule of
    :func:`~recbole_llmkt.transfer.inspection.catalog.automatic_layer` chooses. An entity without a
    fitting layer is left out.
    """
    layers = {
        entity: str(config[f"kt_{entity}_layer"])
        for entity in ENTITIES
        if config[f"kt_{entity}_layer"]
    }
    for entity in ENTITIES:
        if entity not in layers:
            places = catalog(model, train_data) if places is None else places
            with suppress(LayerError):
                layers[entity] = automatic_layer(places, entity)
    return layers


def chosen_layer(context: RunContext, term: TermSettings) -> Layer:
    """Return the layer of a term, found by rule where the setting is ``auto``.

    Raises
    ------
    LayerError
        The model has no layer that could serve.
    """
    if term.layer != "auto":
        return Layer.parse(term.layer)
    preset = context.config[f"kt_{term.entity}_layer"]
    return Layer.parse(preset or automatic_layer(context.places, term.entity))


def partner_settings(settings: Sequence[TermSettings], term: TermSettings) -> TermSettings:
    """Return where a term's partners are read: as another term does, else by rule."""
    other = "item" if term.entity == "user" else "user"
    theirs = (candidate for candidate in settings if candidate.entity == other)
    return next(theirs, TermSettings("auto", "auto", other, 0.0))
