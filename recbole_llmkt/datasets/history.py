"""Each user's interactions in RecBole's training split, and a digest of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from recbole.utils import FeatureSource, FeatureType

from recbole_llmkt.datasets.splits import rating_field
from recbole_llmkt.utils.exceptions import DataError
from recbole_llmkt.utils.types import Array, Dataset

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def history_digest(item_tokens: Iterable[str]) -> str:
    """Return a digest of the items of a history, whatever their order.

    Parameters
    ----------
    item_tokens : iterable of str
        Item tokens as in the atomic files; an item that occurs twice counts twice.

    Returns
    -------
    str
        blake2b, 8 bytes, hex, of the UTF-8 text: tokens sorted as strings, joined by newlines.
    """
    text = "\n".join(sorted(item_tokens))
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Histories:
    """The training interactions of all users, as one compressed sparse row table.

    Attributes
    ----------
    user_tokens, item_tokens : ndarray of str, shapes (n_users,) and (n_items,)
        The atomic files' tokens by RecBole's internal id; id 0 is the padding.
    offsets : ndarray of int64, shape (n_users + 1,)
        User ``u`` owns the positions ``offsets[u]`` to ``offsets[u + 1]`` of the next arrays.
    item_ids : ndarray of int32, shape (n_interactions,)
        Internal item ids, per user in the order of time (of the file where there is no time).
    rating_values : ndarray of float64, shape (n_interactions,), or None
        Ratings, where the training split has such a column.
    further : dict of str to ndarray, shape (n_interactions,)
        The other columns of the ``.inter`` file that ``load_col`` loads (quantity, price): float64,
        or str for tokens.
    """

    user_tokens: Array
    item_tokens: Array
    offsets: IntArray
    item_ids: IntArray
    rating_values: FloatArray | None = None
    further: dict[str, Array] = field(default_factory=dict)

    def items(self, user_id: int) -> IntArray:
        """Return the internal item ids of a user, shape (n,), the latest one last."""
        return self.item_ids[self._span(user_id)]

    def ratings(self, user_id: int) -> FloatArray | None:
        """Return the ratings of a user, shape (n,), in the order of :meth:`items`."""
        return None if self.rating_values is None else self.rating_values[self._span(user_id)]

    def further_columns(self, user_id: int) -> dict[str, Array]:
        """Return the other columns of a user, each of shape (n,), in the order of :meth:`items`."""
        return {name: values[self._span(user_id)] for name, values in self.further.items()}

    def digests(self) -> dict[str, str]:
        """Return :func:`history_digest` of every user but the padding, by user token."""
        numbers = self.digest_numbers()[1:].tolist()
        return {
            str(token): f"{number:016x}" for token, number in zip(self.user_tokens[1:], numbers)
        }

    def digest_numbers(self) -> npt.NDArray[np.uint64]:
        """Return :func:`history_digest` as numbers, by internal id, shape (n_users,)."""
        order = np.argsort(self.item_tokens)
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        sorted_tokens = self.item_tokens[order].astype(object)
        numbers = np.zeros(len(self.user_tokens), dtype=np.uint64)
        for user_id in range(1, len(self.user_tokens)):
            tokens = sorted_tokens[np.sort(rank[self.items(user_id)])]
            # Sorted already: sorting it once more in history_digest takes linear time.
            numbers[user_id] = int(history_digest(tokens), 16)
        return numbers

    def _span(self, user_id: int) -> slice:
        return slice(int(self.offsets[user_id]), int(self.offsets[user_id + 1]))


def training_histories(train_dataset: Dataset) -> Histories:
    """Collect the histories of all users from RecBole's training split.

    Parameters
    ----------
    train_dataset : recbole.data.dataset.Dataset
        The first dataset that ``Dataset.build()`` returns, ``train_data._dataset`` in a run. The
        augmented rows of a ``SequentialDataset`` are traced back to the interactions.

    Returns
    -------
    Histories

    Raises
    ------
    DataError
        The dataset has no user or no item column.
    """
    user_field, item_field = _entity_fields(train_dataset).values()
    columns = _interactions(train_dataset)
    users = columns[user_field].astype(np.int64, copy=False)
    times = columns.get(train_dataset.time_field or "")
    order = np.argsort(users, kind="stable") if times is None else np.lexsort((times, users))
    n_users = train_dataset.num(user_field)
    offsets = np.zeros(n_users + 1, dtype=np.int64)
    np.cumsum(np.bincount(users, minlength=n_users), out=offsets[1:])
    ratings = columns.get(rating_field(train_dataset.config))
    return Histories(
        user_tokens=np.asarray(train_dataset.field2id_token[user_field]),
        item_tokens=np.asarray(train_dataset.field2id_token[item_field]),
        offsets=offsets,
        item_ids=columns[item_field][order].astype(np.int32),
        rating_values=None if ratings is None else ratings[order].astype(np.float64),
        further={
            name: _readable(train_dataset, name, columns[name])[order]
            for name in _further_fields(train_dataset)
            if name in columns
        },
    )


def _further_fields(dataset: Dataset) -> list[str]:
    """Return the columns of the interactions besides user, item, time, rating and label."""
    known = {
        dataset.uid_field,
        dataset.iid_field,
        dataset.time_field,
        rating_field(dataset.config),
        dataset.label_field,
    }
    return [
        name
        for name, kind in dataset.field2type.items()
        if dataset.field2source.get(name) == FeatureSource.INTERACTION
        and name not in known
        and (
            kind == FeatureType.FLOAT
            # Numbers of rows and lengths of lists are tokens without names.
            or (kind == FeatureType.TOKEN and name in dataset.field2id_token)
        )
    ]


def _readable(dataset: Dataset, name: str, values: Array) -> Array:
    if dataset.field2type[name] == FeatureType.FLOAT:
        return values.astype(np.float64)
    return np.asarray(dataset.field2id_token[name])[values.astype(np.int64)]


def interaction_counts(train_dataset: Dataset) -> dict[str, IntArray]:
    """Count the training interactions of every user and item, by internal id.

    Parameters
    ----------
    train_dataset : recbole.data.dataset.Dataset
        As for :func:`training_histories`.

    Returns
    -------
    dict of str to ndarray of int64
        ``"user"``: shape (n_users,); ``"item"``: shape (n_items,); 0 for the padding.
    """
    fields = _entity_fields(train_dataset)
    columns = _interactions(train_dataset)
    return {
        side: np.bincount(columns[field].astype(np.int64), minlength=train_dataset.num(field))
        for side, field in fields.items()
    }


def _entity_fields(dataset: Dataset) -> dict[str, str]:
    fields = {"user": dataset.uid_field, "item": dataset.iid_field}
    if None in fields.values():
        raise DataError(
            f"Dataset '{dataset.dataset_name}' has no users or no items: set USER_ID_FIELD "
            "and ITEM_ID_FIELD to columns of its .inter file."
        )
    return fields


def _interactions(dataset: Dataset) -> dict[str, Array]:
    """Return user, item, rating and time columns with one entry per training interaction."""
    wanted = (
        dataset.uid_field,
        dataset.iid_field,
        dataset.time_field,
        rating_field(dataset.config),
        *_further_fields(dataset),
    )
    feat = dataset.inter_feat
    columns = {field: plain_column(feat[field]) for field in wanted if field and field in feat}
    length_field = dataset.config["ITEM_LIST_LENGTH_FIELD"]
    suffix = dataset.config["LIST_SUFFIX"]
    if length_field not in feat or dataset.iid_field + suffix not in feat:
        return columns
    lists = {
        field: plain_column(feat[field + suffix], keep=2)
        for field in columns
        if field + suffix in feat
    }
    for name in _further_fields(dataset):  # the target's values are not those of the list
        if name not in lists:
            columns.pop(name, None)
    lengths = plain_column(feat[length_field]).astype(np.int64)
    if dataset.config["benchmark_filename"] is None:
        # Every interaction is the target of one augmented row, but for the first of each user,
        # which is the only item in the list of that user's first row.
        rows = np.flatnonzero(lengths == 1)
        return _prepend(columns, {field: values[rows, 0] for field, values in lists.items()}, rows)
    rows, positions = np.nonzero(np.arange(lists[dataset.iid_field].shape[1]) < lengths[:, None])
    listed = {field: values[rows, positions] for field, values in lists.items()}
    return _first_of_each_pair(_prepend(columns, listed, rows), dataset)


def _prepend(
    columns: dict[str, Array], listed: dict[str, Array], rows: IntArray
) -> dict[str, Array]:
    """Put interactions of the item lists before the targets; users have no list of their own."""
    known = {
        field: listed[field] if field in listed else values[rows]
        for field, values in columns.items()
    }
    return {field: np.concatenate([known[field], columns[field]]) for field in columns}


def _first_of_each_pair(columns: dict[str, Array], dataset: Dataset) -> dict[str, Array]:
    pairs = columns[dataset.uid_field].astype(np.int64) * dataset.num(dataset.iid_field)
    _, first = np.unique(pairs + columns[dataset.iid_field], return_index=True)
    first.sort()
    return {field: values[first] for field, values in columns.items()}


def plain_column(values: torch.Tensor, keep: int = 1) -> Array:
    """Return a column of an Interaction; numerical features have a constant beside it."""
    array: Array = values.numpy()
    while array.ndim > keep:
        array = array[..., 0]
    return array
