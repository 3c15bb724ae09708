"""What this package needs of RecBole's objects, which come without type information."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, Union

import numpy as np
import numpy.typing as npt

# Keys and values of a configuration; values are plain (str, numbers, lists, dicts).
Settings = dict[str, Any]
# Plain values and tensors by name: parts of checkpoints, variables of a prompt.
Values = dict[str, Any]
Array = npt.NDArray[Any]
# Tensors and plain values by name: a checkpoint, or a method's part of it.
State = dict[str, Any]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float32]
PlainValue = Union[None, bool, int, float, str, "list[PlainValue]", "dict[str, PlainValue]"]


class SettingsLike(Protocol):
    """Values by key: a configuration, or a mapping of settings."""

    def __getitem__(self, key: str, /) -> Any: ...


class RunConfig(Protocol):
    """A run's configuration: :class:`recbole_llmkt.config.Config`."""

    model: str
    dataset: str
    model_class: type
    final_config_dict: Settings

    def __getitem__(self, key: str, /) -> Any: ...

    def __setitem__(self, key: str, value: Any) -> None: ...

    def __contains__(self, key: str) -> bool: ...

    def plain(self) -> Settings:
        """Return what it was made from, as plain values."""
        ...


class Features(Protocol):
    """A table of a dataset: RecBole's ``Interaction``."""

    def __getitem__(self, index: Any) -> Any: ...

    def __contains__(self, field: str) -> bool: ...

    def __len__(self) -> int: ...


class Dataset(Protocol):
    """RecBole's ``Dataset``: a whole one, or a split."""

    config: RunConfig
    uid_field: str
    iid_field: str
    time_field: str | None
    label_field: str | None
    user_num: int
    item_num: int
    field2id_token: dict[str, npt.NDArray[np.str_]]
    field2token_id: dict[str, dict[str, int]]
    field2type: dict[str, Any]
    dataset_name: str
    inter_feat: Any
    user_feat: Any
    item_feat: Any
    row_hashes: dict[str, IntArray]  # set by recbole_llmkt.datasets.loading

    def __getattr__(self, name: str) -> Any: ...  # what else RecBole's datasets have

    def __getitem__(self, rows: Any) -> Any: ...

    def __len__(self) -> int: ...

    def num(self, field: str) -> int:
        """Return the number of ids of a field, padding included."""
        ...

    def copy(self, features: Any) -> Dataset:
        """Return the same dataset with other interactions."""
        ...


class NumberedDataset(Dataset, Protocol):
    """A whole dataset, and what :mod:`recbole_llmkt.datasets.vocabulary` adds to it."""

    feat_name_list: list[str]
    file_size_list: list[int]
    row_hashes: dict[str, IntArray]
    unknown_tokens: dict[str, list[str]]
    departed_tokens: dict[str, list[str]]


class Loader(Protocol):
    """One of RecBole's loaders."""

    config: RunConfig
    _dataset: Dataset

    def __getattr__(self, name: str) -> Any: ...  # what else RecBole's loaders have

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...


Metrics = Mapping[str, float]
