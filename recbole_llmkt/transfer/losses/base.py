"""What every transfer loss does: check its rows, leave half precision, compute."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recbole_llmkt.compat import autocasts
from recbole_llmkt.utils.exceptions import ConfigError


@dataclass(frozen=True)
class Others:
    """What a loss may compare its rows with, in addition to their own targets.

    Attributes
    ----------
    table : Tensor of shape (k, n), optional
        Targets of all entities of the rows' kind that have a profile.
    partner_hidden : Tensor of shape (q, d), optional
        Hidden states of the batch's entities of the other kind: items for users, users for items.
    partner_target : Tensor of shape (q, n), optional
        Their targets.
    partner_ids : Tensor of int64, shape (q,), optional
        Their ids.
    """

    table: Tensor | None = None
    partner_hidden: Tensor | None = None
    partner_target: Tensor | None = None
    partner_ids: Tensor | None = None


class TransferLoss(nn.Module):
    """Base of the transfer losses: checks once, then the mathematics of the subclass.

    Subclasses write :meth:`compute`, or :meth:`compute_among` if they need :class:`Others`.

    Attributes
    ----------
    same_width : bool
        Whether hidden states and targets must be equally wide.
    unique : bool
        Whether an id with several rows becomes one row before :meth:`compute`.
    contrasts : bool
        Whether the loss tells targets apart. Such a loss has no collapsed minimum, so the target
        may go through a learned map (``kt_projector: profile_mlp``).
    table_of : tuple of str
        The entities whose whole table of targets the loss needs.
    partners : bool
        Whether the loss needs the other entity's hidden states and targets.
    masks : bool
        Whether the loss reads the states of entities that a learned token stood in for.
    temperature : float
        ``kt_temperature``.
    """

    same_width = True
    unique = False
    contrasts = False
    table_of: tuple[str, ...] = ()
    partners = False
    masks = False
    temperature = 0.2

    def forward(
        self, hidden: Tensor, target: Tensor, ids: Tensor, others: Others | None = None
    ) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        hidden : Tensor, shape (m, d)
            Hidden states (projected, if there is a projector).
        target : Tensor, shape (m, n)
            Their targets; n equals d where the loss says ``same_width``.
        ids : Tensor of int64, shape (m,)
            RecBole's ids of the rows; an id may stand in several rows.
        others : Others, optional
            What the loss asked for.

        Returns
        -------
        Tensor of float32, shape ()
            The loss; zero, with a graph, where there are no rows.

        Raises
        ------
        ValueError
            Shapes that do not belong together.
        ConfigError
            The subclass returned something other than a loss.
        """
        if hidden.dim() != 2 or len(hidden) != len(target) or len(ids) != len(hidden):
            raise ValueError(
                f"hidden {tuple(hidden.shape)}, target {tuple(target.shape)} and ids "
                f"{tuple(ids.shape)} must have the same number of rows."
            )
        if self.same_width and hidden.shape != target.shape:
            raise ValueError(
                f"hidden is {hidden.shape[1]} wide and target {target.shape[1]}: they must agree."
            )
        if not len(hidden):
            # Both: with several processes each must reach the same parameters.
            return (hidden.sum() + target.sum()) * 0.0
        with full_precision(hidden):
            hidden, target = hidden.float(), target.float()
            if self.unique:
                hidden, unique, first = unique_rows(hidden, ids)
                target, ids = target[first], unique
            return self._checked(self.compute_among(hidden, target, ids, others), hidden)

    def _checked(self, loss: object, hidden: Tensor) -> Tensor:
        """Refuse what cannot be a loss; whether it is finite, the trainer sees."""
        if not isinstance(loss, Tensor) or loss.dim() or not loss.is_floating_point():
            kind = type(loss).__name__
            if isinstance(loss, Tensor):
                kind = f"tensor of shape {tuple(loss.shape)} and type {loss.dtype}"
            raise ConfigError(
                f"kt_loss: '{self._name}' returned a {kind}: return one number, a float tensor of "
                "shape (), such as the mean over the rows."
            )
        if hidden.requires_grad and torch.is_grad_enabled() and not loss.requires_grad:
            raise ConfigError(
                f"kt_loss: '{self._name}' returned a loss without a gradient: compute it from "
                "`hidden` with torch, without detach() or item()."
            )
        return loss

    @property
    def _name(self) -> str:
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def compute_among(
        self, hidden: Tensor, target: Tensor, ids: Tensor, others: Others | None
    ) -> Tensor:
        """Compute the loss of at least one row, in float32, among ``others``."""
        return self.compute(hidden, target, ids)

    def compute(self, hidden: Tensor, target: Tensor, ids: Tensor) -> Tensor:
        """Compute the loss of at least one row, in float32."""
        raise NotImplementedError


class RowLoss(TransferLoss):
    """Base of the losses that are a function of each row alone, and of how often it counts.

    Subclasses write :meth:`weighted`; what a batch repeats is then computed once.
    """

    def compute(self, hidden: Tensor, target: Tensor, ids: Tensor) -> Tensor:
        """Compute the loss of rows that count once each."""
        return self.weighted(hidden, target, None)

    def of_counted(self, hidden: Tensor, target: Tensor, counts: Tensor) -> Tensor:
        """Compute the loss of rows that stand for several: that of the repeated rows.

        Parameters
        ----------
        hidden : Tensor, shape (n, d)
            Hidden states.
        target : Tensor, shape (n, d)
            Their targets.
        counts : Tensor of float32, shape (n,)
            How often each row counts; not at all where 0.

        Returns
        -------
        Tensor of float32, shape ()
            The loss; zero, with a graph, where no row counts.
        """
        if hidden.shape != target.shape or len(counts) != len(hidden):
            raise ValueError(
                f"hidden {tuple(hidden.shape)}, target {tuple(target.shape)} and counts "
                f"{tuple(counts.shape)} do not fit together."
            )
        with full_precision(hidden):
            hidden = hidden.float()
            return self._checked(self.weighted(hidden, target.float(), counts), hidden)

    @property
    def counts_rows(self) -> bool:
        """Whether :meth:`of_counted` is the loss: not where a subclass computes it otherwise."""
        own, base = type(self), RowLoss
        return (
            own.compute is base.compute
            and own.compute_among is base.compute_among
            and own.forward is base.forward
        )

    def weighted(self, hidden: Tensor, target: Tensor, counts: Tensor | None) -> Tensor:
        """Compute the loss of rows in float32, where without ``counts`` each counts once."""
        raise NotImplementedError


def mean_row(losses: Tensor, counts: Tensor | None) -> Tensor:
    """Return the mean of rows' losses, each counted so often; zero where no row counts.

    Parameters
    ----------
    losses : Tensor, shape (n,)
        A loss for each row.
    counts : Tensor, shape (n,), optional
        Once each by default.
    """
    if counts is None:
        return losses.mean()
    return losses @ counts / counts.sum().clamp_min(1.0)


def full_precision(value: Tensor) -> AbstractContextManager[object]:
    """Leave autocast, under which a product of float32 matrices is computed in half precision.

    Parameters
    ----------
    value : Tensor
        Whose device is meant.
    """
    device = value.device.type
    # To enter the context costs as much as a small product, and it is hardly ever needed.
    if not autocasts(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def unique_rows(hidden: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Make one row of all rows of an id: the mean of their hidden states.

    Two rows of one user are no negatives of each other, so a contrast needs one of them. Their mean
    does not depend on the order of the batch, and the gradient reaches every row.

    Parameters
    ----------
    hidden : Tensor, shape (m, d)
        Hidden states.
    ids : Tensor of int64, shape (m,)
        Ids.

    Returns
    -------
    hidden : Tensor, shape (k, d)
        One row an id.
    ids : Tensor of int64, shape (k,)
        The ids, ascending.
    first : Tensor of int64, shape (k,)
        The row that each id stands in first.
    """
    unique, place, counts = torch.unique(ids, return_inverse=True, return_counts=True)
    if len(unique) == len(ids):
        order = torch.argsort(ids)
        return hidden[order], unique, order
    sums = hidden.new_zeros(len(unique), hidden.shape[1]).index_add(0, place, hidden)
    rows = torch.arange(len(ids), device=ids.device)
    first = torch.full_like(unique, len(ids)).scatter_reduce(0, place, rows, "amin")
    return sums / counts.unsqueeze(1), unique, first


def to_unit_length(vectors: Tensor) -> Tensor:
    """Scale rows to length 1 (nearly: a zero row stays zero and its gradient stays small).

    Parameters
    ----------
    vectors : Tensor of float32, shape (m, n)
        Rows.
    """
    return vectors * torch.rsqrt(vectors.square().sum(1, keepdim=True) + 1e-8)
