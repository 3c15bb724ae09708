"""RecBole's reading, counting and splitting of interactions, with fewer Python objects.

RecBole holds a Python string for every token of every row while it reads, and a Python integer
for every row while it splits. Everything here gives RecBole's own result, value by value.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TextIO

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from recbole.data.dataset.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureType

from recbole_llmkt.compat.replacing import replaced
from recbole_llmkt.compat.sampling import CompactSampler
from recbole_llmkt.utils.types import Array

if TYPE_CHECKING:
    IntArray = npt.NDArray[np.int64]
    # The frame, the column's name and its type.
    _Columns = Sequence[tuple[pd.DataFrame, str, FeatureType]]
    _Sizes = Callable[[int], IntArray]

_read_csv = pd.read_csv
_concatenate = Dataset._concat_remaped_tokens
_ROWS = 1_000_000  # rows read at once
_CHARACTERS = 2**24  # characters checked at once
_ODD = '"\x00\r\x0b\x0c\x1c\x1d\x1e\x1f'


@contextmanager
def compact_interactions() -> Iterator[None]:
    """Let RecBole prepare interactions in less memory and time, for the length of the block.

    Most places are in ``recbole/data/dataset/dataset.py``: ``_filter_by_inter_num`` counts tokens
    one by one, ``_concat_remaped_tokens`` makes them objects, ``_change_feat_format`` holds
    every column twice, and ``split_by_ratio`` and ``leave_one_out`` make a list of Python integers
    a user. ``_create_sampler`` in ``recbole/data/utils.py`` then makes a :class:`CompactSampler`.
    """
    with ExitStack() as stack:
        module = importlib.import_module("recbole.data.dataset.dataset")
        stack.enter_context(replaced(module, "Counter", count))
        loaders = importlib.import_module("recbole.data.utils")
        stack.enter_context(replaced(loaders, "Sampler", CompactSampler))
        for name, function in _METHODS.items():
            stack.enter_context(replaced(Dataset, name, function))
        yield


# ---- reading -----------------------------------------------------------------------------------


def read_plain(
    path: str, delimiter: str, encoding: str, dtype: Mapping[str, type], **keywords: object
) -> pd.DataFrame | None:
    """Read an atomic file with pandas' C engine, part by part, its tokens as categories.

    Parameters
    ----------
    path : str
        The file.
    delimiter, encoding, dtype, **keywords
        What RecBole hands to ``pandas.read_csv``, ``engine`` left out.

    Returns
    -------
    pandas.DataFrame or None
        The columns of ``usecols``; None where the engines may read the file differently.
    """
    n_lines = _plain_lines(path, delimiter, encoding)
    if n_lines is None:
        return None
    keywords |= {
        "delimiter": delimiter,
        "encoding": encoding,
        "dtype": {name: object if kind is str else kind for name, kind in dtype.items()},
    }
    columns: dict[str, _Column] = {}
    with _read_csv(path, **keywords, engine="c", low_memory=False, chunksize=_ROWS) as parts:
        for part in parts:
            for name in part:
                if name not in columns:
                    is_token = dtype[name] is str and name.endswith(":token")
                    columns[name] = (_Tokens if is_token else _Column)(n_lines, part[name].dtype)
                columns[name].append(part[name].to_numpy())
    return pd.DataFrame({name: column.whole() for name, column in columns.items()}, copy=False)


class _Column:
    """A column of numbers or lists that is filled part by part."""

    def __init__(self, n_rows: int, dtype: npt.DTypeLike) -> None:
        self._values = np.empty(n_rows, dtype)
        self._end = 0

    def append(self, values: Array) -> None:
        start, self._end = self._end, self._end + len(values)
        self._values[start : self._end] = values

    def whole(self) -> object:
        return self._values[: self._end]


class _Tokens(_Column):
    """A column of tokens: each token is held once, and each row as its number."""

    def __init__(self, n_rows: int, dtype: npt.DTypeLike) -> None:
        super().__init__(n_rows, np.int32)
        self._numbers: dict[str, int] = {}

    def append(self, values: Array) -> None:
        codes, tokens = pd.factorize(values)
        numbers = [self._numbers.setdefault(token, len(self._numbers)) for token in tokens]
        # The last one is for the code -1: no value.
        super().append(np.array([*numbers, -1], dtype=np.int32)[codes])

    def whole(self) -> object:
        tokens = pd.Index(list(self._numbers), dtype=object)
        return pd.Categorical.from_codes(super().whole(), categories=tokens)


def _plain_lines(path: str, separator: str, encoding: str) -> int | None:
    """Return the number of lines of a file that both engines read alike, and None for others.

    They differ in quotes, control characters, rows with more or fewer cells than the header, and
    the sign of zero.
    """
    mark = re.escape(separator)
    with open(path, encoding=encoding, newline="") as file:
        header = file.readline()
        n_others, cell = header.count(separator), rf"[^{mark}\n]*"
        ragged = rf"\n(?!\Z)(?!(?:{cell}{mark}){{{n_others}}}{cell}(?:\n|\Z))"
        patterns = [re.compile(rf"-0+(?:[{mark}\n]|\Z)"), re.compile(ragged)]
        if n_others < 1 or header.startswith("\ufeff"):
            return None
        n_lines = 0
        for rows in _blocks(file, header):
            if any(sign in rows for sign in _ODD) or any(p.search(rows) for p in patterns):
                return None
            n_lines += rows.count("\n") - 1
    return n_lines


def _blocks(file: TextIO, header: str) -> Iterator[str]:
    """Yield a file by blocks of whole rows, each with a line break before it."""
    rest = header
    while text := file.read(_CHARACTERS):
        rows, line_break, rest = (rest + text).rpartition("\n")
        yield f"\n{rows}{line_break}"
    yield f"\n{rest}"


# ---- counting and numbering --------------------------------------------------------------------


def count(values: Iterable[Hashable] = ()) -> Counter[Hashable]:
    """Count values as ``collections.Counter`` does, categories by their numbers."""
    if not isinstance(values, pd.Categorical):
        return Counter(values)
    counts = np.bincount(values.codes[values.codes >= 0], minlength=len(values.categories))
    return Counter({token: n for token, n in zip(values.categories, counts.tolist()) if n})


def _concatenate_tokens(self: Dataset, remap_list: _Columns) -> tuple[object, Array]:
    """Return all tokens and where to split them; categories stay categories."""
    columns = [feat[field].values for feat, field, kind in remap_list if kind == FeatureType.TOKEN]
    if len(columns) < len(remap_list) or not all(isinstance(c, pd.Categorical) for c in columns):
        joined: tuple[object, Array] = _concatenate(self, remap_list)
        return joined
    split_points: Array = np.cumsum(list(map(len, columns)))[:-1]
    tokens = columns[0] if len(columns) == 1 else pd.api.types.union_categoricals(columns)
    return tokens, split_points


def _change_format(self: Dataset) -> None:
    """Turn frames into tensors, column by column, each of which is released."""
    for name in self.feat_name_list:
        feat = getattr(self, name)
        columns: dict[str, torch.Tensor] = {}
        for field in list(feat):
            columns.update(self._dataframe_to_interaction(feat[field].to_frame()).interaction)
            del feat[field]
        setattr(self, name, Interaction(columns))


# ---- splitting ---------------------------------------------------------------------------------


def _split_by_ratio(
    self: Dataset, ratios: Sequence[float], group_by: str | None = None
) -> list[Dataset]:
    total = sum(ratios)
    shares = [ratio / total for ratio in ratios]

    def sizes_of(n_rows: int) -> IntArray:
        ends = self._calcu_split_ids(tot=n_rows, ratios=shares)
        return np.diff([0, *ends, n_rows])

    return _split(self, group_by, sizes_of)


def _leave_one_out(self: Dataset, group_by: str | None, leave_one_mode: str) -> list[Dataset]:
    if group_by is None:
        raise ValueError("leave one out strategy require a group field")
    if leave_one_mode not in _LEFT_OUT:
        raise NotImplementedError(
            f"The leave_one_mode [{leave_one_mode}] has not been implemented."
        )
    left_out = _LEFT_OUT[leave_one_mode]

    def sizes_of(n_rows: int) -> IntArray:
        # The last rows come first: a group of two rows has none for validation.
        n_left = min(len(left_out), n_rows - 1)
        sizes = np.zeros(3, dtype=np.int64)
        sizes[list(left_out[len(left_out) - n_left :])] = 1
        sizes[0] = n_rows - n_left
        return sizes

    return _split(self, group_by, sizes_of)


# Which parts get one row of each user.
_LEFT_OUT = {"valid_and_test": (1, 2), "valid_only": (1,), "test_only": (2,)}


def _split(self: Dataset, group_by: str | None, sizes_of: _Sizes) -> list[Dataset]:
    """Split the rows of each group, groups in the order of their first row.

    Parameters
    ----------
    self : recbole.data.dataset.Dataset
        Its interactions are in the order of the split.
    group_by : str or None
        The column of the groups; None: all rows are one group.
    sizes_of : callable
        Number of a group's rows to the sizes of its parts.
    """
    if group_by is None:
        ends = np.cumsum(sizes_of(len(self)))
        rows: Sequence[slice | torch.Tensor] = [
            slice(start, end) for start, end in zip([0, *ends], ends)
        ]
    else:
        rows = _rows_of_parts(self.inter_feat[group_by].numpy(), sizes_of)
    self._drop_unused_col()
    parts: list[dict[str, torch.Tensor]] = [{} for _ in rows]
    columns = self.inter_feat.interaction
    released = getattr(self, _RELEASED, False)
    for name in list(columns):
        column = columns.pop(name) if released else columns[name]
        for part, chosen in zip(parts, rows):
            part[name] = column[chosen].clone() if isinstance(chosen, slice) else column[chosen]
    return [self.copy(Interaction(part)) for part in parts]


def _rows_of_parts(owners: Array, sizes_of: _Sizes) -> list[torch.Tensor]:
    """Return the row numbers of each part."""
    small = np.int32 if len(owners) < 2**31 else np.int64
    groups = pd.factorize(owners)[0].astype(small)
    lengths, by_length = np.unique(np.bincount(groups), return_inverse=True)
    order = np.argsort(groups, kind="stable").astype(small)
    del groups
    # That of a single row tells how many parts there are, also where there is no row at all.
    tables = [sizes_of(int(length)) for length in (1, *lengths)]
    sizes = np.stack(tables)[1:][by_length]
    part_numbers = np.tile(np.arange(sizes.shape[1], dtype=np.int8), len(sizes))
    part = np.repeat(part_numbers, sizes.ravel())
    return [
        torch.from_numpy(order[part == number].astype(np.int64)) for number in range(sizes.shape[1])
    ]


def release_when_split(dataset: Dataset) -> None:
    """Let a dataset that nobody uses afterwards lose its rows when it is split."""
    setattr(dataset, _RELEASED, True)


_RELEASED = "llmkt_released"
_METHODS = {
    "_concat_remaped_tokens": _concatenate_tokens,
    "_change_feat_format": _change_format,
    "split_by_ratio": _split_by_ratio,
    "leave_one_out": _leave_one_out,
}
