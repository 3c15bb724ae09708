"""RecBole's splits of a dataset, built outside a training run."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType

from recbole_llmkt.compat import create_dataset, pandas_data, release_when_split
from recbole_llmkt.datasets.atomic import read_header
from recbole_llmkt.datasets.checks import check_files
from recbole_llmkt.utils.exceptions import DataError, recbole_refusals
from recbole_llmkt.utils.randomness import isolated_randomness
from recbole_llmkt.utils.types import Dataset, NumberedDataset, RunConfig, Settings

FloatArray = npt.NDArray[np.float64]

_ROW_FIELD = "profile_row_number"


def training_split(config: RunConfig) -> Dataset:
    """Build RecBole's training split of a configuration, outside a training run.

    Parameters and errors are those of :func:`build_splits`, whose first dataset this is.
    """
    return build_splits(config)[0]


def build_splits(config: RunConfig) -> list[Dataset]:
    """Build RecBole's training, validation and test splits, outside a training run.

    The splits are those of a run with the same configuration and seed. Ratings come on the scale
    of the file, even where RecBole normalises them or turns them into labels, and the global
    random streams are left as they were.

    Parameters
    ----------
    config : recbole_llmkt.config.Config
        The run's configuration.

    Returns
    -------
    list of recbole.data.dataset.Dataset
        Each of them fits :func:`training_histories`.

    Raises
    ------
    DataError
        The interactions cannot be read or split.
    """
    check_files(config, strict=False)
    refusals = recbole_refusals(
        lambda reason: DataError(
            f"RecBole cannot split dataset '{config['dataset']}' in '{config['data_path']}': "
            f"{reason}. Check data_path, load_col and eval_args."
        )
    )
    with refusals, isolated_randomness(config["seed"]), pandas_data():
        dataset, ratings = _dataset_and_ratings(config)
        if ratings is not None:
            dataset.inter_feat[_ROW_FIELD] = np.arange(len(ratings))
            dataset.set_field_property(_ROW_FIELD, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
        release_when_split(dataset)
        splits = dataset.build()
    if ratings is not None:
        for split in splits:
            _restore_ratings(split, ratings)
    return splits


def _dataset_and_ratings(config: RunConfig) -> tuple[NumberedDataset, FloatArray | None]:
    """Return the dataset, and the file's ratings, one per row that the filters leave.

    The ratings are None where there are none, or where the dataset has them as they are.
    Normalisation and labels change values after the filters, never rows or their order, so a
    second dataset without them has the same rows.
    """
    field = rating_field(config)
    if not interaction_file(config).is_file():
        create_dataset(config)  # downloads it, or says what is missing
    if field not in read_header(interaction_file(config), config):
        return create_dataset(config), None
    normalised = config["normalize_all"] or field in (config["normalize_field"] or [])
    if normalised or field in (config["numerical_features"] or []):
        return create_dataset(config), _file_ratings(config, field)
    loading = {"load_col": _loading(config["load_col"], field)}
    dataset = create_dataset(_changed(config, **loading))
    if field not in dataset.inter_feat:  # a threshold has made labels of it
        return dataset, _file_ratings(config, field)
    ratings: FloatArray = dataset.inter_feat[field].to_numpy(dtype=np.float64)
    is_kept = np.array_equal(ratings.astype(np.float32), ratings)  # RecBole's precision
    return dataset, None if is_kept else ratings


def _file_ratings(config: RunConfig, field: str) -> FloatArray:
    raw = _changed(
        config,
        normalize_all=None,
        normalize_field=None,
        threshold=None,
        discretization=None,
        numerical_features=[],
        load_col=_loading(config["load_col"], field),
    )
    with isolated_randomness(config["seed"]):
        ratings: FloatArray = create_dataset(raw).inter_feat[field].to_numpy(dtype=np.float64)
    return ratings


def _changed(config: RunConfig, **keys: object) -> RunConfig:
    changed = copy.copy(config)
    changed.final_config_dict = {**config.final_config_dict, **keys}
    return changed


def _loading(load_col: Settings | None, field: str) -> Settings | None:
    """Return ``load_col`` with a column of the interactions added."""
    listed = (load_col or {}).get("inter", "*")
    if load_col is None or listed == "*" or field in listed:
        return load_col
    return {**load_col, "inter": [*listed, field]}


def _restore_ratings(split: Dataset, ratings: FloatArray) -> None:
    """Put the file's ratings into the split, by row number."""
    field, suffix = rating_field(split.config), split.config["LIST_SUFFIX"]
    values = torch.from_numpy(ratings)
    feat = split.inter_feat
    for name in (field, field + suffix):
        row_name = _ROW_FIELD + name[len(field) :]
        if row_name in feat:
            feat.update(Interaction({name: values[feat[row_name]]}))


def interaction_file(config: RunConfig) -> Path:
    """Return the (first) file of interactions that a configuration reads."""
    parts = config["benchmark_filename"]
    name = f"{config['dataset']}.{parts[0]}.inter" if parts else f"{config['dataset']}.inter"
    return Path(config["data_path"]) / name


def rating_field(config: RunConfig) -> str:
    """Return the name of the column with the ratings."""
    return str(config["profile_rating_field"] or config["RATING_FIELD"])
