"""Rows: which user or item each row of a tapped tensor belongs to.

The meaning is inferred once, before training, from experiments
(:mod:`recbole_llmkt.transfer.inspection.probe`): two batches of different size tell an axis that
follows the batch from one that does not, recorded ids tell what an embedding table holds, and
replacing one row of the batch tells which row of the layer depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llmkt.transfer.inspection.layers import Call
from recbole_llmkt.utils.exceptions import RowsError

Aligned = tuple[Tensor, Tensor]


class Counted(NamedTuple):
    """Hidden states, each with the number of rows of a batch that it stands for.

    Attributes
    ----------
    hidden : Tensor, shape (n, d)
        Hidden states.
    ids : Tensor of int64, shape (n,), or None
        Whose they are; None where row i is that of id i.
    counts : Tensor of int64, shape (n,)
        How many rows each one stands for.
    """

    hidden: Tensor
    ids: Tensor | None
    counts: Tensor


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
        return _joined([self._align_one(call, interaction) for call in calls])

    def counted(self, calls: Sequence[Call], interaction: Interaction) -> Counted | None:
        """Return what :meth:`align` does, but rows that must be equal once; None for no gain.

        Parameters
        ----------
        calls, interaction
            As for :meth:`align`.
        """
        return None

    def _whole(self, table: Tensor, offset: int, ids: Tensor) -> Counted | None:
        """Return the entity's part of a table, unless fewer rows of it were asked for."""
        n = self.entities.n
        if n > len(ids):
            return None
        counts = torch.bincount(ids, minlength=n)
        part = table if len(table) == n else table.narrow(0, offset, n)
        return Counted(part.flatten(1), None, counts)

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


def _joined(pairs: list[Aligned]) -> Aligned:
    if len(pairs) == 1:  # without a copy
        return pairs[0]
    return torch.cat([hidden for hidden, _ in pairs]), torch.cat([ids for _, ids in pairs])


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
        fields = self.fields + self.fields[-1:] * len(calls)
        return _joined(
            [
                self._pair(call.value, interaction[name])
                for call, name in zip(calls, fields)
                if name is not None
            ]
        )

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

    def counted(self, calls: Sequence[Call], interaction: Interaction) -> Counted | None:
        """Return the entity's rows of a table that was recorded once."""
        if len(calls) != 1:
            return None
        self._check(calls[0])
        return self._whole(calls[0].value, self.offset, self.batch_ids(interaction))

    def _check(self, call: Call) -> None:
        if call.value.dim() < 2 or len(call.value) < self.offset + self.entities.n:
            raise self._misfit(call.value, f"with {self.entities.n} rows")

    def _align_one(self, call: Call, interaction: Interaction) -> Aligned:
        self._check(call)
        ids = self.batch_ids(interaction)
        return call.value.index_select(0, ids + self.offset).flatten(1), ids


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

    def counted(self, calls: Sequence[Call], interaction: Interaction) -> Counted | None:
        """Return the entity's rows of the table that was looked up."""
        table = calls[0].table if calls else None
        if table is None:
            return None
        ids = torch.cat([self._ids(call) for call in calls]) if calls[1:] else self._ids(calls[0])
        return self._whole(table, self.offset, ids[self._inside(ids)] if self.shared else ids)

    def _ids(self, call: Call) -> Tensor:
        if call.ids is None:
            raise self._misfit(call.value, "that an nn.Embedding looked up")
        ids = call.ids if self.column is None else call.ids[:, self.column]
        return ids.flatten() - self.offset if self.offset else ids.flatten()

    def _inside(self, ids: Tensor) -> Tensor:
        return (ids >= 0) & (ids < self.entities.n)

    def _align_one(self, call: Call, interaction: Interaction) -> Aligned:
        ids = self._ids(call)
        value = call.value if self.column is None else call.value[:, self.column]
        hidden = value.flatten(0, -2)
        if self.shared:
            inside = self._inside(ids)
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
