"""A checkpoint's weights in a model of grown data: known rows by token, new rows as they start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from recbole_llmkt.compat import MASK_TOKENS
from recbole_llmkt.datasets.vocabulary import Vocabulary
from recbole_llmkt.transfer.inspection.tables import shared_fields
from recbole_llmkt.utils.exceptions import DataError
from recbole_llmkt.utils.types import Dataset, State

Positions = tuple[Tensor, Tensor]  # in the checkpoint, in the model


def check_growth(dataset: Dataset, more: Mapping[str, Sequence[str]], path: str) -> None:
    """Refuse new items where they would get the numbers of a knowledge graph's entities.

    Parameters
    ----------
    dataset : recbole.data.dataset.Dataset
        The data, in the checkpoint's numbering.
    more : mapping of str to sequence of str
        New tokens by field.
    path : str
        The checkpoint, for the message.

    Raises
    ------
    DataError
        The data have a knowledge graph and new items.
    """
    items = more.get(dataset.iid_field, ())
    if items and getattr(dataset, "entity_field", None) is not None:
        raise DataError(
            f"'{path}' was trained over a knowledge graph, in which items and entities share their "
            f"numbers, and {len(items)} items are new, '{items[0]}' for one: train from the start."
        )


def grown_checkpoint(
    checkpoint: State, model: nn.Module, before: Vocabulary, dataset: Dataset, path: str
) -> State:
    """Fit a checkpoint to a model of the same settings whose data have further tokens.

    Every row of a known token is the checkpoint's. Rows of new ones stay as the model starts them.
    What the model computed from its weights is left out: it computes it again.

    Parameters
    ----------
    checkpoint : dict
        Of :func:`~recbole_llmkt.checkpoints.load_checkpoint`.
    model : nn.Module
        Built on ``dataset``, with fresh weights.
    before : Vocabulary
        The checkpoint's.
    dataset : recbole.data.dataset.Dataset
        Numbered as in ``before``, with new tokens behind the known ones.
    path : str
        The checkpoint's file, for messages.

    Returns
    -------
    dict
        What :func:`~recbole_llmkt.checkpoints.load_weights` puts into the model.

    Raises
    ------
    DataError
        A parameter differs in more than the rows of new tokens.
    """
    fresh, saved = model.state_dict(), checkpoint["state_dict"]
    unshared = sorted(fresh.keys() ^ saved.keys())
    if unshared:
        where = "the checkpoint" if unshared[0] in saved else "the model"
        raise DataError(
            f"'{path}' does not fit this {type(model).__name__}: only {where} has the parameter "
            f"'{unshared[0]}'. Start with the settings of the model that it was trained with."
        )
    layout = _Layout(model, before, dataset)
    state = {name: layout.fit(name, saved[name], fresh[name], path) for name in fresh}
    other = {
        key: None if isinstance(value, Tensor) and value.is_floating_point() else value
        for key, value in checkpoint["other_parameter"].items()
    }
    transfer = {**checkpoint["transfer"], "clusters": {}}
    return {**checkpoint, "state_dict": state, "other_parameter": other, "transfer": transfer}


class _Layout:
    """Which tokens the rows of a model's parameters belong to."""

    def __init__(self, model: nn.Module, before: Vocabulary, dataset: Dataset) -> None:
        self._model, self._modules = model, dict(model.named_modules())
        self._before = {name: len(tokens) for name, tokens in before.tokens.items()}
        self._now = {name: len(dataset.field2id_token[name]) for name in self._before}
        users, items = dataset.uid_field, dataset.iid_field
        entity = getattr(dataset, "entity_field", None)
        stacks = [(users, items), *([(users, entity), (entity, users)] if entity else [])]
        fields = dict.fromkeys([users, items, *self._before])
        self._usual = [(name,) for name in fields] + [
            stack for stack in stacks if set(stack) <= set(self._before)
        ]

    def fit(self, name: str, saved: Tensor, fresh: Tensor, path: str) -> Tensor:
        if saved.shape == fresh.shape:
            return saved
        if not saved.is_floating_point():
            return fresh  # counted from the data, and not learned
        positions: list[Positions | None] = []
        if saved.dim() == fresh.dim():
            positions = [self._positions(name, *sizes) for sizes in zip(saved.shape, fresh.shape)]
        if not positions or None in positions:
            raise DataError(
                f"'{path}' does not fit this {type(self._model).__name__}: '{name}' has the shape "
                f"{tuple(saved.shape)} there and {tuple(fresh.shape)} here, which new users, items "
                "or other ids do not explain. Start with the settings of the model that it was "
                "trained with."
            )
        known = [pair for pair in positions if pair is not None]
        fitted = fresh.clone()
        source = saved.to(fresh.device)[torch.meshgrid(*[pair[0] for pair in known], indexing="ij")]
        fitted[torch.meshgrid(*[pair[1] for pair in known], indexing="ij")] = source
        return fitted

    def _positions(self, name: str, before: int, now: int) -> Positions | None:
        """Return where the known rows are in both; None if tokens do not explain the sizes."""
        if before == now:
            return torch.arange(now), torch.arange(now)
        for fields, extra in self._candidates(name):
            old, new = ([sizes[field] for field in fields] for sizes in (self._before, self._now))
            if sum(old) + extra == before and sum(new) + extra == now:
                return _starts(old, old, extra), _starts(new, old, extra)
        return None

    def _candidates(self, name: str) -> Iterator[tuple[Sequence[str], int]]:
        shared = shared_fields(self._modules, name)
        for extra in range(1 if shared else MASK_TOKENS + 1):
            for fields in [shared] if shared else self._usual:
                yield fields, extra


def _starts(sizes: Sequence[int], kept: Sequence[int], extra: int) -> Tensor:
    """Return the first ``kept`` positions of each part, and the ``extra`` ones behind all."""
    parts: list[Tensor] = []
    start = 0
    for size, count in zip(sizes, kept):
        parts.append(torch.arange(start, start + count))
        start += size
    return torch.cat([*parts, torch.arange(start, start + extra)])
