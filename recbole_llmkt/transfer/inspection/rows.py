"""Rows: which user or item each row of a tapped tensor belongs to.

The meaning is inferred once, before training, from experiments
(:mod:`recbole_llmkt.transfer.inspection.probe`): two batches of different size tell an axis that
follows the batch from one that does not, recorded ids tell what an embedding table holds, and
replacing one row of the batch tells which row of the layer depends on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llmkt.transfer.inspection.layers import Call
from recbole_llmkt.utils.exceptions import RowsError

Aligned = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Entities:
    """What the rows may belong to.

    Attributes
    ----------
    entity : str
        ``"user"`` or ``"item"``.
    id_field : str
        RecBole's field of the entity's ids.
    id_fields : tuple of str
        All fields of a batch that hold ids of the entity (sampled negatives too).
    list_fields : tuple of str
        Fields of a batch that hold sequences of ids of the entity.
    own_fields : tuple of str
        The id field and the entity's own features.
    state_fields : tuple of str
        All fields that the entity's state may depend on: ids, features and, for users, sequences.
    n, n_users, n_items : int
        Numbers of internal ids, the padding id included.
    max_length : int
        Length of RecBole's item sequences (0 where there are none).
    length_field : str
        RecBole's field with the lengths of the item sequences.
    """

    entity: str
    id_field: str
    id_fields: tuple[str, ...]
    list_fields: tuple[str, ...]
    own_fields: tuple[str, ...]
    state_fields: tuple[str, ...]
    n: int
    n_users: int
    n_items: int
    max_length: int = 0
    length_field: str = ""

    @classmethod
    def of(cls, dataset: Dataset, entity: str, batch: Interaction) -> Entities:
        """Describe the users or the items of a dataset, as they occur in a batch."""
        config = dataset.config
        id_field = dataset.uid_field if entity == "user" else dataset.iid_field
        features = dataset.user_feat if entity == "user" else dataset.item_feat
        names = (id_field, config["NEG_PREFIX"] + id_field)
        suffix = config["LIST_SUFFIX"] or "_list"
        lists = (id_field + suffix,)
        own = {id_field, *(features.interaction if features is not None else ())}
        length_field = config["ITEM_LIST_LENGTH_FIELD"] or ""
        state = {*names, *own}
        if entity == "user":
            state |= {name for name in batch.interaction if name.endswith(suffix)} | {length_field}
        return cls(
            entity,
            id_field,
            tuple(name for name in names if name in batch.interaction),
            tuple(name for name in lists if name in batch.interaction),
            tuple(sorted(name for name in own if name in batch.interaction)),
            tuple(sorted(name for name in state if name in batch.interaction)),
            dataset.user_num if entity == "user" else dataset.item_num,
            dataset.user_num,
            dataset.item_num,
            config["MAX_ITEM_LIST_LENGTH"] if length_field in batch.interaction else 0,
            length_field,
        )


class Rows:
    """What the rows of a tapped tensor mean.

    Attributes
    ----------
    meaning : str
        The word for it in ``kt_rows``.
    """

    meaning: str

    def __init__(self, entities: Entities) -> None:
        self.entities = entities

    def align(self, calls: Sequence[Call], interaction: Interaction) -> Aligned:
        """Pair hidden states with ids.

        Parameters
        ----------
        calls : sequence of Call
            What the layer recorded in this step.
        interaction : Interaction
            The batch.

        Returns
        -------
        hidden : Tensor, shape (n, d)
            One hidden state a row, with its graph.
        ids : Tensor of int64, shape (n,)
            RecBole's id of the user or item that each row belongs to.

        Raises
        ------
        RowsError
            The tensors do not have the shape that this meaning needs.
        """
        pairs = [self._align_one(call, interaction) for call in calls]
        if len(pairs) == 1:
            return pairs[0]
        return torch.cat([hidden for hidden, _ in pairs]), torch.cat([ids for _, ids in pairs])

    def _align_one(self, call: Call, interaction: Interaction) -> Aligned:
        raise NotImplementedError

    def batch_ids(self, interaction: Interaction) -> Tensor:
        """Return the entity's ids in the batch: all of them if it holds none (autoencoders)."""
        columns = [interaction[name].flatten() for name in self.entities.id_fields]
        if columns:
            return torch.cat(columns)
        device = next(iter(interaction.interaction.values())).device
        return torch.arange(1, self.entities.n, device=device)

    def _misfit(self, value: Tensor, needs: str) -> RowsError:
        return RowsError(
            f"kt_rows: {self.meaning} needs a tensor {needs}, but the layer gives the shape "
            f"{tuple(value.shape)}. Choose another kt_rows or another kt_layer."
        )

    def __str__(self) -> str:
        return self.meaning


class BatchRows(Rows):
    """Row b is row b of the batch: shape (B, ..., d); axes in between are flattened into d.

    Parameters
    ----------
    entities : Entities
        Users or items.
    fields : sequence of str or None
        The id field that each call of a step follows (a pairwise model may call the layer once
        for the positive and once for the negative item); the last serves all further calls. A
        call that is None is left out: its rows are somebody else's.
    """

    meaning = "batch"

    def __init__(self, entities: Entities, fields: Sequence[str | None]) -> None:
        super().__init__(entities)
        self.fields = tuple(fields)

    def align(self, calls: Sequence[Call], interaction: Interaction) -> Aligned:
        """Pair row b of each call with the id in row b of the batch."""
        fields = self.fields + self.fields[-1:] * (len(calls) - len(self.fields))
        pairs = [
            self._pair(call.value, interaction[name])
            for call, name in zip(calls, fields)
            if name is not None
        ]
        return torch.cat([hidden for hidden, _ in pairs]), torch.cat([ids for _, ids in pairs])

    def _pair(self, value: Tensor, column: Tensor) -> Aligned:
        if value.dim() < 2 or len(value) > len(column):
            raise self._misfit(value, "whose first axis is the batch")
        return value.flatten(1), column[: len(value)]


class TableRows(Rows):
    """Row i is the user (or item) with id i: shape (n_users, d) or (n_items, d).

    The rows of the batch's own ids are read, so a table weighs a user as a batch does.
    """

    meaning = "table"

    def __init__(self, entities: Entities, offset: int = 0) -> None:
        super().__init__(entities)
        self.offset = offset

    def _align_one(self, call: Call, interaction: Interaction) -> Aligned:
        if call.value.dim() < 2 or len(call.value) < self.offset + self.entities.n:
            raise self._misfit(call.value, f"with {self.entities.n} rows")
        ids = self.batch_ids(interaction)
        return call.value[ids + self.offset].flatten(1), ids


class NodeRows(TableRows):
    """Rows are the nodes of the graph, users first, then items: shape (n_users + n_items, d)."""

    meaning = "node"

    def __init__(self, entities: Entities) -> None:
        super().__init__(entities, 0 if entities.entity == "user" else entities.n_users)


class LookupRows(Rows):
    """Rows are what an embedding table was asked for: the recorded ids say whose they are.

    Parameters
    ----------
    entities : Entities
        Users or items.
    offset : int
        Where the entity's ids begin in the table.
    column : int, optional
        The entity's own column, for a table that serves several fields: ids of shape (B, F).
    shared : bool
        Whether one call may ask for other entities too; those are left out.
    """

    meaning = "lookup"

    def __init__(
        self, entities: Entities, offset: int = 0, column: int | None = None, shared: bool = False
    ) -> None:
        super().__init__(entities)
        self.offset, self.column, self.shared = offset, column, shared

    def _align_one(self, call: Call, interaction: Interaction) -> Aligned:
        if call.ids is None:
            raise self._misfit(call.value, "that an nn.Embedding looked up")
        value, ids = call.value, call.ids
        if self.column is not None:
            value, ids = value[:, self.column], ids[:, self.column]
        hidden, ids = value.flatten(0, -2), ids.flatten() - self.offset
        if self.shared:
            inside = (ids >= 0) & (ids < self.entities.n)
            hidden, ids = hidden[inside], ids[inside]
        return hidden, ids


class FieldRows(Rows):
    """One field's column of a (B, F, d) tensor, row b being row b of the batch."""

    meaning = "field"

    def __init__(self, entities: Entities, column: int) -> None:
        super().__init__(entities)
        self.column = column

    def _select(self, value: Tensor, batch: int) -> Tensor:
        if value.dim() < 3 or value.shape[1] <= self.column:
            raise self._misfit(value, "of shape (batch, fields, width)")
        return value[:, self.column]

    def _align_one(self, call: Call, interaction: Interaction) -> Aligned:
        ids = interaction[self.entities.id_field].flatten()
        hidden = self._select(call.value, len(ids)).flatten(1)
        return hidden, ids[: len(hidden)]


class FieldFirstRows(FieldRows):
    """One field's slice of a (F, B, d) tensor."""

    meaning = "field_first"

    def _select(self, value: Tensor, batch: int) -> Tensor:
        if value.dim() < 3 or value.shape[0] <= self.column or value.shape[1] > batch:
            raise self._misfit(value, "of shape (fields, batch, width)")
        return value[self.column]


class FlatRows(FieldRows):
    """One field's rows of a (B * F, d) tensor in which a batch row's fields stand together."""

    meaning = "flat"

    def _select(self, value: Tensor, batch: int) -> Tensor:
        if value.dim() < 2 or len(value) % batch or len(value) // batch <= self.column:
            raise self._misfit(value, "of shape (batch * fields, width)")
        return value.reshape(batch, -1, *value.shape[1:])[:, self.column]


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

    def _align_one(self, call: Call, interaction: Interaction) -> Aligned:
        value, ids = call.value, interaction[self.entities.id_field].flatten()
        if value.dim() != 3 or len(value) != len(ids):
            raise self._misfit(value, "of shape (batch, length, width)")
        if call.ids is None and not self.entities.max_length:
            raise self._misfit(value, "of item sequences, but the batch has none")
        if call.ids is not None:
            lengths = (call.ids != 0).sum(1)
        else:
            lengths = interaction[self.entities.length_field].flatten()
        steps_back = lengths[:, None] - 1 - torch.arange(value.shape[1], device=value.device)
        # Under autocast a matrix product of float32 would be computed in half precision.
        with torch.autocast(value.device.type, enabled=False):
            value = value.float()
            pooled = torch.bmm(self._weights(value, steps_back).unsqueeze(1), value).squeeze(1)
        # A user without history has no state to read.
        known = lengths > 0
        return pooled[known], ids[known]

    def _weights(self, value: Tensor, steps_back: Tensor) -> Tensor:
        """Return (B, L) weights that add up to 1 over the steps of each user who has any."""
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
