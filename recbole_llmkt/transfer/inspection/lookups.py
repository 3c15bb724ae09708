"""Find out whether a model reads a table by lookups alone, by experiment."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from recbole_llmkt.compat import kept_tensors, restore_kept
from recbole_llmkt.transfer.inspection.layers import Layer, Tap, looks_up_plainly
from recbole_llmkt.transfer.inspection.probe import (
    PROBE_SEED,
    Probe,
    make_batch,
    recommendation_loss,
    shadow_of,
)
from recbole_llmkt.utils.randomness import isolated_randomness
from recbole_llmkt.utils.types import Features, Loader

_ROWS = 17


class LookupExperiment:
    """Compute a loss while the rows of a table that it did not look up hold no numbers.

    Parameters
    ----------
    model : nn.Module
        The model; it is only read.
    train_data : AbstractDataLoader
        RecBole's loader of the training split.
    """

    def __init__(self, model: nn.Module, train_data: Loader) -> None:
        self.model = model
        with isolated_randomness(PROBE_SEED):
            self._shadow = shadow_of(model)
            Probe.ready(self._shadow)
            device = next(model.parameters()).device
            self._batch: Features = make_batch(train_data, _ROWS).to(device)

    def modules_of(self, name: str) -> list[nn.Embedding]:
        """Return the modules that look up a parameter, if a training step reads it only there.

        Parameters
        ----------
        name : str
            The parameter, as in ``state_dict``.

        Returns
        -------
        list of nn.Embedding
            The model's own; empty where a step reads the parameter in another way, too.
        """
        parameter = dict(self.model.named_parameters())[name]
        owners = [
            path
            for path, module in self.model.named_modules()
            if any(own is parameter for own in module.parameters(recurse=False))
        ]
        modules = [self.model.get_submodule(path) for path in owners]
        tables = [module for module in modules if isinstance(module, nn.Embedding)]
        if len(tables) < len(modules) or not all(looks_up_plainly(table) for table in tables):
            return []
        before, ids = self._loss(owners)
        if not ids:
            return []
        poisoned = torch.full_like(parameter, torch.nan)
        asked = torch.cat([each.flatten() for each in ids])
        poisoned[asked] = parameter.detach()[asked]
        shadows = [self._shadow.get_submodule(path) for path in owners]
        try:
            for shadow in shadows:
                shadow.weight = nn.Parameter(poisoned)
            after, _ = self._loss(owners)
        finally:
            for shadow in shadows:
                shadow.weight = parameter
        return tables if torch.equal(before, after) else []  # NaN equals nothing

    def _loss(self, owners: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """Return the parts of the loss, and the ids that the owners were asked for."""
        kept = {name: tensor.clone() for name, tensor in kept_tensors(self._shadow).items()}
        with isolated_randomness(PROBE_SEED), torch.enable_grad(), ExitStack() as stack:
            taps = [stack.enter_context(Tap(self._shadow, Layer(path))) for path in owners]
            loss = recommendation_loss(self._shadow)(copy.deepcopy(self._batch))
            ids = [call.ids for tap in taps for call in tap.calls if call.ids is not None]
        restore_kept(self._shadow, kept)
        parts = loss if isinstance(loss, tuple) else (loss,)
        return torch.stack([part.detach().sum().float() for part in parts]), ids
