"""Masking: a learned token stands in for the embeddings of some users or items of a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from recbole_llmkt.transfer.inspection.tables import EntityTable


class EntityMask(nn.Module):
    """Hide entities from a model for the length of a step.

    Parameters
    ----------
    tables : sequence of EntityTable
        The tables that hold the entities' embeddings.
    model : nn.Module
        The model that owns them.
    ratio : float
        ``kt_mask_ratio``: the share of a step's entities to hide; at least one of them is.
    seed : int
        Seed of the choice; the global random streams are left alone.

    Attributes
    ----------
    tokens : nn.ParameterList
        For each table, the vector that stands in, of shape (width,). It starts at zero.
    """

    def __init__(
        self, tables: Sequence[EntityTable], model: nn.Module, ratio: float, seed: int
    ) -> None:
        super().__init__()
        self.tables, self.ratio, self.seed = list(tables), ratio, seed
        parameters = dict(model.named_parameters())
        self.tokens = nn.ParameterList(
            nn.Parameter(torch.zeros_like(table.rows(parameters)[0])) for table in tables
        )

    def choose(self, ids: Tensor, step: Sequence[int]) -> Tensor:
        """Choose the entities of a step.

        Parameters
        ----------
        ids : Tensor of int64, shape (n,)
            The candidates, each once.
        step : sequence of int
            What the choice depends on besides the seed: a resumed run repeats it.

        Returns
        -------
        Tensor of int64, shape (k,)
        """
        count = min(len(ids), max(1, int(len(ids) * self.ratio)))
        places = np.random.default_rng([self.seed, *step]).permutation(len(ids))[:count]
        return ids[torch.from_numpy(places).to(ids.device)]

    @contextmanager
    def hiding(self, model: nn.Module, ids: Tensor) -> Iterator[None]:
        """Replace the entities' embeddings by the tokens within a context.

        Gradients reach the tokens, and the embeddings of everybody else.

        Parameters
        ----------
        model : nn.Module
            The model, or a copy of it.
        ids : Tensor of int64, shape (k,)
            Ids to hide, each once.
        """
        hidden = []
        try:
            for table, token in zip(self.tables, self.tokens):
                path, _, name = table.name.rpartition(".")
                owner = model.get_submodule(path)
                value = getattr(owner, name)
                stand_in = token.to(value.dtype).unsqueeze(table.axis)
                shape = [-1, -1]
                shape[table.axis] = len(ids)
                masked = value.index_copy(table.axis, ids + table.offset, stand_in.expand(shape))
                hidden.append((owner, name, vars(owner).get(name)))
                # An attribute of the instance goes before a registered parameter, which stays
                # registered: optimizer and state_dict see nothing of this.
                vars(owner)[name] = masked
            yield
        finally:
            for owner, name, before in reversed(hidden):
                if before is None:
                    del vars(owner)[name]
                else:
                    vars(owner)[name] = before
