"""The tables of users and items that a run writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from logging import getLogger
from typing import Any

from torch import nn

from recbole_llmkt.exceptions import LayerError
from recbole_llmkt.profiles.store import ENTITIES
from recbole_llmkt.transfer.table_finder import NAME_THEM, EntityTable, TableFinder

logger = getLogger(__name__)


def find_tables(
    model: nn.Module, train_data: Any, entities: Iterable[str], patterns: str | Sequence[str]
) -> dict[str, list[EntityTable]]:
    """Find the tables of users or items by what the model shows in two training batches.

    An ``nn.Embedding`` is known by the ids that it is asked for, an autoencoder's first layer by
    the history that it is fed, its last one by the scores that it moves. A table that no batch
    asks by its own ids (a graph model reads it whole) is known by its number of rows and a name
    that speaks of users, items, entities or nodes.

    Parameters
    ----------
    model : nn.Module
        The model; nothing of it changes.
    train_data : AbstractDataLoader
        RecBole's loader of the training split.
    entities : iterable of str
        ``"user"``, ``"item"`` or both.
    patterns : str or sequence of str
        ``"auto"`` or the value of ``kt_init_tables``: globs of parameter names, each optionally
        behind ``user:`` or ``item:``, which settles whose rows they are.

    Returns
    -------
    dict of str to list of EntityTable
        By entity, in the order of the model's parameters; tables of width 1 are among them.

    Raises
    ------
    LayerError
        Rows that cannot be told apart, or a pattern that matches nothing.
    """
    wanted = tuple(entities)
    finder = TableFinder(model, train_data)
    if patterns == "auto":
        found = finder.all()
        if finder.unclear:
            raise LayerError(
                f"Cannot tell users from items in {type(model).__name__}'s "
                f"{', '.join(finder.unclear)}: there are {finder.sizes['user']} users and "
                f"{finder.sizes['item']} items. {NAME_THEM}"
            )
    else:
        found = [table for pattern in _listed(patterns) for table in finder.matching(pattern)]
    found = list(dict.fromkeys(found))
    return {entity: [one for one in found if one.entity == entity] for entity in wanted}


def chosen_tables(
    config: Any, model: nn.Module, train_data: Any, min_width: int = 1
) -> dict[str, list[EntityTable]]:
    """Return the tables that a run is to write: those of ``kt_entity`` and ``kt_init_tables``.

    Parameters
    ----------
    config : Config
        The run's configuration.
    model : nn.Module
        The model; nothing of it changes.
    train_data : AbstractDataLoader
        RecBole's loader of the training split.
    min_width : int
        Leave narrower tables out.

    Returns
    -------
    dict of str to list of EntityTable
        By entity. Of two entities one may be missing, with a warning: an autoencoder has no users.

    Raises
    ------
    LayerError
        There is no table at all, or whose it is cannot be told.
    """
    named = config["kt_entity"]
    named = list(ENTITIES) if named == "both" else [named] if isinstance(named, str) else named
    found = find_tables(model, train_data, dict.fromkeys(named), config["kt_init_tables"])
    parameters = dict(model.named_parameters())
    kept = {
        entity: [one for one in tables if one.rows(parameters).shape[1] >= min_width]
        for entity, tables in found.items()
    }
    if not any(kept.values()):
        raise _no_tables(model, " or ".join(kept))
    for entity in [one for one, tables in kept.items() if not tables]:
        logger.warning("%s has no table of %ss: none is written.", type(model).__name__, entity)
    return {entity: tables for entity, tables in kept.items() if tables}


def _no_tables(model: nn.Module, entity: str) -> LayerError:
    shapes = [f"{name} {tuple(one.shape)}" for name, one in model.named_parameters()]
    return LayerError(
        f"{type(model).__name__} has no table with a row for every {entity}. Set kt_entity to "
        f"whom it has one for, or name it. {NAME_THEM} Its parameters: {', '.join(shapes)}."
    )


def _listed(patterns: str | Sequence[str]) -> Sequence[str]:
    return [patterns] if isinstance(patterns, str) else patterns
