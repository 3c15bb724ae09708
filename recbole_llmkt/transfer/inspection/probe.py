"""Ask a model, before training, what the rows of its layers are: by small experiments.

Nothing here touches the model that will be trained: the experiments run on a shadow of it that
shares the parameters and owns everything else, with the global random streams put back after.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Union

import numpy as np
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_llmkt.compat import kept_tensors, restore_kept
from recbole_llmkt.transfer.inspection.layers import Call, Layer, Tap
from recbole_llmkt.utils.randomness import isolated_randomness
from recbole_llmkt.utils.types import Loader

# The names under which RecBole's trainers call a model's recommendation loss.
LOSS_METHODS = ("calculate_loss", "calculate_rs_loss")
PROBE_SIZES = (11, 17)
PROBE_SEED = 20411
# What a model's loss method returns: one loss, or its parts.
Loss = Union[Tensor, tuple[Tensor, ...]]
# Rows that are replaced, and the columns; None: all of them.
_Replaced = tuple[tuple[int, ...], "tuple[str, ...] | None"]


def loss_methods(model: nn.Module) -> list[str]:
    """Name the recommendation-loss methods that ``model`` defines (never its graph loss)."""
    from recbole.model.abstract_recommender import AbstractRecommender

    return [
        name
        for name in LOSS_METHODS
        if getattr(type(model), name, None) not in (None, getattr(AbstractRecommender, name, None))
    ]


def recommendation_loss(model: nn.Module) -> Callable[[Interaction], Loss]:
    """Return a function of a batch that computes the model's recommendation loss."""
    method = getattr(model, loss_methods(model)[-1])
    flags = [name for name in inspect.signature(method).parameters if name == "encoder_flag"]
    return lambda interaction: method(interaction, **{name: True for name in flags})


def shadow_of(model: nn.Module) -> nn.Module:
    """Copy a model, sharing its parameters and constant tensors.

    Buffers, counters and caches are the copy's own, so running it leaves the model untouched.
    """
    shared: dict[int, object] = {id(parameter): parameter for parameter in model.parameters()}
    own = {id(tensor) for tensor in kept_tensors(model).values()}  # changed in place
    for module in model.modules():
        for value in vars(module).values():
            is_constant = isinstance(value, (Tensor, np.ndarray, Dataset)) and id(value) not in own
            if is_constant and not isinstance(value, nn.Parameter):
                shared[id(value)] = value
    shadow = copy.deepcopy(model, shared)
    shadow.zero_grad = lambda *_: None  # type: ignore[method-assign]
    return shadow


def make_batch(train_data: Loader, size: int) -> Interaction:
    """Make one training batch of ``size`` examples without moving the loader on.

    Parameters
    ----------
    train_data : AbstractDataLoader
        RecBole's loader of the training split.
    size : int
        Examples before negative sampling; spread over the data, so over many users.
    """
    batch = _collate(getattr(train_data, "general_dataloader", train_data), size)
    if hasattr(train_data, "kg_dataloader"):
        # RecBole lays triples of the graph beside the interactions where one loss needs both.
        batch.update(_collate(train_data.kg_dataloader, len(batch)))
    return batch


def _collate(loader: Loader, size: int) -> Interaction:
    last = loader.sample_size - 1
    return loader.collate_fn(np.linspace(min(1, last), last, size).astype(np.int64))


@dataclass(frozen=True)
class Reading:
    """What the layers showed for one batch.

    Attributes
    ----------
    interaction : Interaction
        The batch.
    calls : dict of Layer to list of Call
        What each layer recorded.
    """

    interaction: Interaction
    calls: dict[Layer, list[Call]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Rows of the batch, sampled negatives included."""
        return len(self.interaction)


class Probe:
    """Run experiments on the shadow of a model.

    Parameters
    ----------
    model : nn.Module
        The model; it is only read.
    train_data : AbstractDataLoader
        RecBole's loader of the training split.
    layers : sequence of Layer
        Where to read; a layer that never runs shows no calls.
    """

    def __init__(self, model: nn.Module, train_data: Loader, layers: Sequence[Layer]) -> None:
        self.model, self.train_data, self.layers = model, train_data, list(layers)
        self._experiments: dict[_Replaced, Reading] = {}
        self._changes: dict[tuple[Layer, int, _Replaced], list[set[int]]] = {}
        self._idle: list[Layer] | None = None
        device = next(model.parameters()).device
        with isolated_randomness(PROBE_SEED):
            self.shadow = shadow_of(model)
            self.ready(self.shadow)
            self.batches = [make_batch(train_data, size).to(device) for size in PROBE_SIZES]
            self.readings = [self.read(batch) for batch in self.batches]

    @staticmethod
    def ready(shadow: nn.Module) -> None:
        """Bring a shadow into the state of a training step that treats every row alone."""
        shadow.train()
        for module in shadow.modules():
            # Off go dropout, batch statistics and all else that mixes the rows of a batch. The
            # model itself keeps taking a training step, and cuDNN needs that of recurrent layers.
            module.training = module is shadow or isinstance(module, nn.RNNBase)
        if hasattr(shadow, "e_step"):
            shadow.e_step()  # type: ignore[operator]

    def read(self, interaction: Interaction) -> Reading:
        """Run one loss on the shadow, always with the same random numbers."""
        interaction = copy.deepcopy(interaction)
        kept = {name: tensor.clone() for name, tensor in kept_tensors(self.shadow).items()}
        with isolated_randomness(PROBE_SEED), torch.enable_grad(), ExitStack() as stack:
            taps = [stack.enter_context(Tap(self.shadow, layer)) for layer in self.layers]
            loss = recommendation_loss(self.shadow)(interaction)
            if self._idle is None:
                self._idle = _idle_parameters(taps, loss)
            calls = {tap.layer: list(tap.calls) for tap in taps}
        restore_kept(self.shadow, kept)  # the next loss starts from the same state
        return Reading(interaction, {**calls, **{layer: [] for layer in self._idle}})

    def lengths(self, layer: Layer, axis: int) -> tuple[int, int]:
        """Return how long ``axis`` is with the smaller and with the larger batch."""
        first, second = (reading.calls[layer][0].value.shape[axis] for reading in self.readings)
        return first, second

    def follows_batch(self, layer: Layer, axis: int, fields: Sequence[str]) -> list[bool]:
        """Tell, call by call, whether position j of ``axis`` depends on row j of the batch.

        Two rows of the batch are replaced, one at a time: a call follows the batch if it changes
        there and nowhere else.

        Parameters
        ----------
        layer : Layer
            The layer.
        axis : int
            The axis that may be the batch.
        fields : sequence of str
            The columns to replace.
        """
        nowhere = [False] * len(self.readings[0].calls[layer])
        first, second = self.lengths(layer, axis)
        if first == second or first > self.readings[0].size:
            return nowhere
        ends = (0, first - 1)
        first_found, last_found = (self.changed(layer, axis, [row], fields) for row in ends)
        return [
            bool(at_first | at_last) and at_first <= {ends[0]} and at_last <= {ends[1]}
            for at_first, at_last in zip(first_found, last_found)
        ]

    def changed(
        self, layer: Layer, axis: int, rows: Sequence[int], fields: Sequence[str] | None = None
    ) -> list[set[int]]:
        """Replace rows of the batch and list, call by call, where the layer changes.

        Parameters
        ----------
        layer : Layer
            The layer.
        axis : int
            The axis whose positions are listed.
        rows : sequence of int
            Rows of the first batch, each replaced by a row of the second.
        fields : sequence of str, optional
            Replace only these columns.
        """
        key = (layer, axis, (tuple(rows), None if fields is None else tuple(fields)))
        if key not in self._changes:
            after = self.experiment(rows, fields).calls[layer]
            pairs = zip(self.readings[0].calls[layer], after)
            self._changes[key] = [
                _differing(old.value.detach(), new.value.detach(), axis) for old, new in pairs
            ]
        return [set(places) for places in self._changes[key]]

    def experiment(self, rows: Sequence[int], fields: Sequence[str] | None = None) -> Reading:
        """Read the first batch again with some rows (or columns of them) from the second."""
        key = (tuple(rows), tuple(fields) if fields is not None else None)
        if key not in self._experiments:
            # Not the reading's own interaction: a loss may have added columns to that.
            replaced = self.batches[0]
            for row in rows:
                replaced = _with_row(replaced, self.batches[1], row, fields)
            self._experiments[key] = self.read(replaced)
        return self._experiments[key]


def _idle_parameters(taps: Sequence[Tap], loss: Loss) -> list[Layer]:
    """List the tapped parameters that a loss does not depend on.

    A parameter is there without a call, also where a model never uses it (LR owns the embedding
    tables of its base class).
    """
    tapped = {
        tap.layer: tap.place
        for tap in taps
        if isinstance(tap.place, Tensor) and tap.place.requires_grad
    }
    first, *others = loss if isinstance(loss, tuple) else (loss,)
    total = sum((part.sum() for part in others), first.sum())
    if not tapped or not total.requires_grad:
        return []
    grads = torch.autograd.grad(total, list(tapped.values()), allow_unused=True, retain_graph=True)
    return [layer for layer, grad in zip(tapped, grads) if grad is None]


def _differing(old: Tensor, new: Tensor, axis: int) -> set[int]:
    if old.shape != new.shape:
        return set()
    differs = (old != new).movedim(axis, 0).flatten(1).any(1)
    return set(differs.nonzero().flatten().tolist())


def _with_row(
    interaction: Interaction, other: Interaction, row: int, fields: Sequence[str] | None = None
) -> Interaction:
    """Copy a batch with one row taken from another batch, at values that differ.

    All columns come from the same row where there is one that differs in all of them: a sequence
    and its length belong together.
    """
    changed = copy.deepcopy(interaction)
    names = list(fields) if fields is not None else list(changed.interaction)
    differing = {name: _rows_that_differ(changed[name][row], other[name]) for name in names}
    varying = [set(names) for names in differing.values() if names]
    common = sorted(set.intersection(*varying)) if varying else []
    for name, choices in differing.items():
        choices = common or choices
        if choices:
            changed[name][row] = other[name][choices[row % len(choices)]]
    return changed


def _rows_that_differ(value: Tensor, column: Tensor) -> list[int]:
    return [i for i in range(len(column)) if not torch.equal(column[i], value)]
