"""What this package needs of RecBole's objects, which come without type information."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, Union, overload

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from recbole.data.interaction import Interaction
    from recbole.sampler import AbstractSampler
    from recbole.utils import FeatureSource, FeatureType
    from scipy.sparse import spmatrix
    from torch import Tensor

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


# This package's keys by the type of their values (recbole_llmkt.keys.table says what they mean).
BoolKey = Literal["kt_enabled", "kt_strict_keys", "kt_cold_start"]
OptionalBoolKey = Literal["kt_fast_ranking"]
IntKey = Literal[
    "kt_neighbours",
    "kt_cold_threshold",
    "kt_kar_shared_experts",
    "kt_kar_own_experts",
    "kt_kar_hidden",
    "profile_encoder_batch_size",
    "profile_max_history",
    "profile_batch_size",
    "profile_max_tokens",
    "profile_concurrency",
    "profile_retries",
]
OptionalIntKey = Literal[
    "kt_projector_dim", "kt_hybrid_width", "kt_seed", "kt_valid_users", "profile_seed"
]
FloatKey = Literal[
    "kt_temperature",
    "kt_mask_ratio",
    "kt_regularizer_weight",
    "kt_init_scale",
    "kt_hybrid_scale",
    "kt_tail_share",
    "kt_kar_dropout",
    "kt_epochs",  # an int is a number of epochs, a float a share of them
    "profile_timeout",
]
OptionalFloatKey = Literal[
    "kt_hybrid_rate", "kt_hybrid_decay", "kt_closed_form_weight", "profile_temperature"
]
StrKey = Literal[
    "kt_method",
    "kt_pool",
    "kt_loss",
    "kt_regularizer",
    "kt_schedule",
    "kt_balance",
    "kt_transform",
    "kt_projector",
    "kt_control",
    "kt_init",
    "kt_hybrid",
    "kt_closed_form",
    "profile_encoder",
    "profile_generator",
    "profile_prompt",
    "profile_domain",
    "profile_history",
    "profile_api_key_env",
    "profile_device",
    "profile_engine",
]
OptionalStrKey = Literal[
    "kt_preset",
    "kt_user_layer",
    "kt_item_layer",
    "profile_dir",
    "profile_model",
    "profile_file",
    "profile_title_field",
    "profile_category_field",
    "profile_text_field",
    "profile_rating_field",
    "profile_api_base",
]
StrOrListKey = Literal["kt_layer", "kt_rows", "kt_entity", "kt_init_tables"]
ListKey = Literal["kt_slices", "kt_freeze_phase1", "kt_freeze_phase2"]
FloatOrListKey = Literal["kt_weight"]
LeakKey = Literal["profile_allow_leak"]


class SettingsLike(Protocol):
    """Values by key: a configuration, or a mapping of settings."""

    def __getitem__(self, key: str, /) -> Any: ...


class RunConfig(Protocol):
    """A run's configuration: :class:`recbole_llmkt.config.Config`."""

    model: str
    dataset: str
    model_class: type
    final_config_dict: Settings

    @overload
    def __getitem__(self, key: BoolKey, /) -> bool: ...

    @overload
    def __getitem__(self, key: OptionalBoolKey, /) -> bool | None: ...

    @overload
    def __getitem__(self, key: IntKey, /) -> int: ...

    @overload
    def __getitem__(self, key: OptionalIntKey, /) -> int | None: ...

    @overload
    def __getitem__(self, key: FloatKey, /) -> float: ...

    @overload
    def __getitem__(self, key: OptionalFloatKey, /) -> float | None: ...

    @overload
    def __getitem__(self, key: StrKey, /) -> str: ...

    @overload
    def __getitem__(self, key: OptionalStrKey, /) -> str | None: ...

    @overload
    def __getitem__(self, key: StrOrListKey, /) -> str | list[str]: ...

    @overload
    def __getitem__(self, key: ListKey, /) -> list[str]: ...

    @overload
    def __getitem__(self, key: FloatOrListKey, /) -> float | list[float]: ...

    @overload
    def __getitem__(self, key: LeakKey, /) -> bool | Literal["tune"]: ...

    @overload
    def __getitem__(self, key: str, /) -> Any: ...

    def __setitem__(self, key: str, value: object) -> None: ...

    def __contains__(self, key: str) -> bool: ...

    def plain(self) -> Settings:
        """Return what it was made from, as plain values."""
        ...

    def says(self, key: str) -> bool:
        """Return whether somebody gave the key a value."""
        ...


class Features(Protocol):
    """Columns by name, a batch or a table of a dataset: RecBole's ``Interaction``."""

    interaction: dict[str, Tensor]

    @overload
    def __getitem__(self, index: str) -> Tensor: ...

    @overload
    def __getitem__(self, index: Tensor | IntArray | slice) -> Features: ...

    def __contains__(self, field: str) -> bool: ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device | str) -> Features:
        """Return the same columns on a device."""
        ...

    def update(self, columns: Features) -> None:
        """Add columns, or put them in the place of those with their names."""
        ...

    def repeat_interleave(self, times: int) -> Features:
        """Return every row ``times`` times, one after the other."""
        ...


class Dataset(Protocol):
    """RecBole's ``Dataset``: a whole one, or a split."""

    config: RunConfig
    uid_field: str
    iid_field: str
    time_field: str | None
    label_field: str | None
    user_num: int
    item_num: int
    user_counter: Mapping[int, int]  # how often each id occurs in inter_feat
    item_counter: Mapping[int, int]
    field2id_token: dict[str, npt.NDArray[np.str_]]
    field2token_id: dict[str, dict[str, int]]
    field2type: dict[str, FeatureType]
    field2source: dict[str, FeatureSource]
    item_list_length_field: str  # sequential datasets alone
    dataset_name: str
    inter_feat: Features
    user_feat: Features | None
    item_feat: Features | None
    row_hashes: dict[str, IntArray]  # set by recbole_llmkt.datasets.loading
    unknown_tokens: dict[str, list[str]]  # both by recbole_llmkt.datasets.vocabulary
    departed_tokens: dict[str, list[str]]

    def __getitem__(self, rows: Tensor) -> Features: ...

    def __len__(self) -> int: ...

    def join(self, features: Interaction) -> Interaction:
        """Add the columns of users and items to interactions."""
        ...

    def fields(self, source: Sequence[FeatureSource]) -> list[str]:
        """Return the names of the fields of some tables."""
        ...

    def num(self, field: str) -> int:
        """Return the number of ids of a field, padding included."""
        ...

    def inter_matrix(self, form: str) -> spmatrix:
        """Return the interactions as a scipy matrix, users in rows."""
        ...

    def copy(self, features: Features) -> Dataset:
        """Return the same dataset with other interactions."""
        ...


class NumberedDataset(Dataset, Protocol):
    """A whole dataset before it is split: its tables are pandas'."""

    inter_feat: pd.DataFrame
    feat_name_list: list[str]
    file_size_list: list[int]

    def set_field_property(
        self, field: str, kind: FeatureType, source: FeatureSource, length: int, /
    ) -> None:
        """Describe a new column."""
        ...

    def build(self) -> list[Dataset]:
        """Return its training, validation and test part."""
        ...


class Loader(Protocol):
    """One of RecBole's loaders."""

    config: RunConfig
    sample_size: int
    _dataset: Dataset
    _sampler: AbstractSampler

    def collate_fn(self, index: IntArray) -> Features:
        """Return the batch of these rows."""
        ...

    def __iter__(self) -> Iterator[Features]: ...

    def __len__(self) -> int: ...


Metrics = Mapping[str, float]
