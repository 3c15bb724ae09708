"""Rows of a time axis: the states of a user's sequence or history, pooled."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from recbole.data.interaction import Interaction
from torch import Tensor
from torch.nn import functional

from recbole_llmkt.transfer.inspection.layers import Call
from recbole_llmkt.transfer.inspection.rows import Aligned, Counted, Entities, Rows


class TimeRows(Rows):
    """The states of a user's sequence or history, pooled into one: shape (B, L, d).

    Parameters
    ----------
    entities : Entities
        Users.
    pool : str
        ``last``: the state at the last interaction; ``mean``; ``exponential``: weights that halve
        with every :data:`HALF_LIFE` steps back; ``attention``: softmax of the scaled product with
        the last state.
    """

    meaning = "time"
    HALF_LIFE = 5.0

    def __init__(self, entities: Entities, pool: str) -> None:
        super().__init__(entities)
        self.pool = pool

    def counted(self, calls: Sequence[Call], interaction: Interaction) -> Counted | None:
        """Pool histories of the same user once, from the table that they were looked up in."""
        call = calls[0] if len(calls) == 1 else None
        if call is None or self.pool == "attention" or call.table is None or call.ids is None:
            return None
        users = self._users(call, interaction)
        users, histories, counts = _each_once(users, call.ids)
        lengths = (histories != 0).sum(1)
        weights = self._weights(histories, _steps_back(lengths, histories))
        used = weights > 0
        ends = used.sum(1).cumsum(0)
        pooled = functional.embedding_bag(
            histories[used],
            call.table,
            torch.cat([ends.new_zeros(1), ends[:-1]]),
            mode="sum",
            per_sample_weights=weights[used].to(call.table.dtype),
        )
        # A user without history has no state to read.
        return Counted(pooled, users, counts.masked_fill(lengths == 0, 0))

    def _users(self, call: Call, interaction: Interaction) -> Tensor:
        """Return whose each row is, of a tensor that fits."""
        value = call.value
        users: Tensor = interaction[self.entities.id_field].flatten()
        if value.dim() != 3 or len(value) != len(users):
            raise self._misfit(value, "of shape (batch, length, width)")
        if call.ids is None and not self.entities.max_length:
            raise self._misfit(value, "of item sequences, but the batch has none")
        return users

    def _align_one(self, call: Call, interaction: Interaction) -> Aligned:
        value, users = call.value, self._users(call, interaction)
        if call.ids is not None:
            lengths = (call.ids != 0).sum(1)
        else:
            lengths = interaction[self.entities.length_field].flatten()
        # Under autocast a matrix product of float32 would be computed in half precision.
        with torch.autocast(value.device.type, enabled=False):
            value = value.float()
            weights = self._weights(value, _steps_back(lengths, value))
            pooled = torch.bmm(weights.unsqueeze(1), value).squeeze(1)
        # A user without history has no state to read.
        known = lengths > 0
        return pooled[known], users[known]

    def _weights(self, value: Tensor, steps_back: Tensor) -> Tensor:
        """Return (B, L) weights that add up to 1 over the steps of each user who has any.

        Only ``attention`` reads the states.
        """
        if self.pool == "last":
            return (steps_back == 0).float()
        if self.pool == "mean":
            scores = torch.zeros_like(steps_back, dtype=torch.float32)
        elif self.pool == "exponential":
            scores = -steps_back * (math.log(2.0) / self.HALF_LIFE)
        else:
            last = ((steps_back == 0).unsqueeze(-1) * value).sum(1)
            scores = torch.einsum("bld,bd->bl", value, last) / value.shape[-1] ** 0.5
        padding = steps_back < 0
        # All of a row at -inf would be NaN, and so would its gradient.
        padding = padding & ~padding.all(1, keepdim=True)
        return torch.softmax(scores.masked_fill(padding, -math.inf), dim=1)


def _steps_back(lengths: Tensor, states: Tensor) -> Tensor:
    """Return (B, L): how many steps each one lies before its sequence's last."""
    return lengths[:, None] - 1 - torch.arange(states.shape[1], device=states.device)


def _each_once(users: Tensor, histories: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each user, with the history and the number of rows; all rows if histories differ."""
    unique, place, counts = torch.unique(users, return_inverse=True, return_counts=True)
    rows = torch.arange(len(users), device=users.device)
    first = torch.full_like(unique, len(users)).scatter_reduce(0, place, rows, "amin")
    each = histories[first]
    if torch.equal(each[place], histories):
        return unique, each, counts
    return users, histories, torch.ones_like(users)
