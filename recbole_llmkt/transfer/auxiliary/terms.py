"""A term of the transfer loss: what is read, what it is compared with, and how."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_llmkt.profiles.loading import ProfileVectors
from recbole_llmkt.transfer.auxiliary.masking import EntityMask
from recbole_llmkt.transfer.inspection.layers import Layer, Tap
from recbole_llmkt.transfer.inspection.rows import Counted, Rows
from recbole_llmkt.transfer.losses import Others, TransferLoss
from recbole_llmkt.transfer.losses.base import RowLoss, unique_rows
from recbole_llmkt.transfer.targets.build import TargetTable
from recbole_llmkt.utils.types import Settings


def _of_known(table: TargetTable) -> Tensor:
    """Return the known targets, without a copy where only the padding has none."""
    return table.values[1:] if table.complete else table.values[table.mask]


@dataclass
class Source:
    """Hidden states of users or items, and their targets.

    Attributes
    ----------
    layer : Layer
        Where the states are read.
    rows : Rows
        Whose they are.
    table : TargetTable
        The targets.
    profiles : ProfileVectors
        What these were made from.
    width : int
        Width of the states.
    """

    layer: Layer
    rows: Rows
    table: TargetTable
    profiles: ProfileVectors
    width: int

    def read_counted(self, tap: Tap, interaction: Interaction) -> Counted | None:
        """Return the states of entities with their targets, and how often each one counts.

        Those without a profile do not count. None where nothing is gained over :meth:`read`.
        """
        counted = self.rows.counted(tap.calls, interaction)
        if counted is None:
            return None
        known = self.table.known if counted.ids is None else self.table.known[counted.ids]
        return counted._replace(counts=counted.counts * known)

    def targets_of(self, ids: Tensor | None) -> Tensor:
        """Return the targets of ids, or of all of them."""
        return self.table.values if ids is None else self.table.values.index_select(0, ids)

    def read(self, tap: Tap, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """Return the states that ``tap`` recorded for entities with a profile, and their ids."""
        hidden, ids = self.rows.align(tap.calls, interaction)
        if self.table.complete and len(ids) and int(ids.min()) > 0:
            return hidden, ids
        known = self.table.mask[ids]
        # Leaving none out is what mostly happens, and a copy of all rows costs as much as the loss.
        return (hidden, ids) if bool(known.all()) else (hidden[known], ids[known])


@dataclass
class Term(Source):
    """One source, its loss and its weight.

    Attributes
    ----------
    loss : TransferLoss
        The loss.
    weight : float
        Its share of the sum.
    reached : list of str
        Parameters that a loss at the layer trains.
    projector : nn.Module, optional
        The learned map of the states, or of the targets.
    projects_target : bool
        Which of the two it maps.
    partner : Source, optional
        The other entity, for a loss that needs it.
    mask : EntityMask, optional
        What hides entities, for a loss that needs it.
    regularizer : nn.Module, optional
        A guard on the states.
    regularizer_weight : float
        Its weight within the term.
    """

    loss: TransferLoss
    weight: float
    reached: list[str]
    projector: nn.Module | None = None
    projects_target: bool = False
    partner: Source | None = None
    mask: EntityMask | None = None
    regularizer: nn.Module | None = None
    regularizer_weight: float = 0.0

    def __post_init__(self) -> None:
        wants_table = self.profiles.entity in self.loss.table_of
        self._known = _of_known(self.table) if wants_table else None
        self._row_loss = (
            self.loss
            if isinstance(self.loss, RowLoss) and self.loss.counts_rows and not self.regularizer
            else None
        )

    def choose(self, interaction: Interaction, step: Sequence[int]) -> Tensor | None:
        """Choose the entities of a batch to hide; None where none is hidden."""
        if self.mask is None:
            return None
        ids = torch.unique(self.rows.batch_ids(interaction))
        return self.mask.choose(ids[self.table.mask[ids]], step)

    def hiding(self, model: nn.Module, masked: Tensor | None) -> AbstractContextManager[None]:
        """Hide the chosen entities from the model within a context."""
        if self.mask is None or masked is None:
            return nullcontext()
        return self.mask.hiding(model, masked)

    def compute(
        self,
        tap: Tap,
        interaction: Interaction,
        partner_tap: Tap | None = None,
        masked: Tensor | None = None,
    ) -> Tensor:
        """Compute this term's transfer loss for a batch.

        Parameters
        ----------
        tap : Tap
            What the layer recorded.
        interaction : Interaction
            The batch.
        partner_tap : Tap, optional
            What the partner's layer recorded.
        masked : Tensor of int64, optional
            The entities that were hidden: only their states count.
        """
        if self._row_loss is not None and masked is None:
            counted = self.read_counted(tap, interaction)
            if counted is not None:
                target = self._project_target(self.targets_of(counted.ids))
                hidden = self._project(counted.hidden)
                return self._row_loss.of_counted(hidden, target, counted.counts)
        hidden, ids = self.read(tap, interaction)
        if masked is not None:
            kept = torch.isin(ids, masked)
            hidden, ids = hidden[kept], ids[kept]
        if self.loss.unique:
            # The loss would do so itself, but fewer rows are cheaper to look up and to map.
            hidden, ids, _ = unique_rows(hidden.float(), ids)
        target = self._project_target(self.targets_of(ids))
        hidden = self._project(hidden)
        loss: Tensor = self.loss(hidden, target, ids, self._others(partner_tap, interaction))
        if self.regularizer is not None:
            loss = loss + self.regularizer_weight * self.regularizer(hidden, target, ids)
        return loss

    def _project(self, hidden: Tensor) -> Tensor:
        on_it = self.projector is not None and not self.projects_target
        return self.projector(hidden) if on_it else hidden  # type: ignore[misc]

    def _project_target(self, target: Tensor) -> Tensor:
        on_it = self.projector is not None and self.projects_target
        return self.projector(target) if on_it else target  # type: ignore[misc]

    def _others(self, partner_tap: Tap | None, interaction: Interaction) -> Others | None:
        if self._known is not None:
            return Others(table=self._project_target(self._known))
        if self.partner is None or partner_tap is None:
            return None
        hidden, ids = self.partner.read(partner_tap, interaction)
        if self.loss.unique:
            hidden, ids, _ = unique_rows(hidden.float(), ids)
        # Both sides live in one space, so one projector serves both.
        return Others(None, self._project(hidden), self.partner.table.values[ids], ids)

    def learned(self) -> dict[str, nn.Module]:
        """Return the learned modules outside the model; they are discarded after training."""
        parts = {"projector": self.projector, "mask": self.mask, "loss": self.loss}
        return {
            name: module
            for name, module in parts.items()
            if module is not None and next(module.parameters(), None) is not None
        }

    def summary(self) -> Settings:
        """Describe the term in plain values, for logs, results and checkpoints."""
        return {
            "layer": str(self.layer),
            "rows": str(self.rows),
            **self.profiles.summary(),
            "width": self.width,
            "target_width": int(self.table.values.shape[1]),
            "weight": self.weight,
            "parameters_reached": self.reached,
            "partner_layer": str(self.partner.layer) if self.partner else None,
            "masked_tables": [str(table) for table in self.mask.tables] if self.mask else [],
        }
