"""What a run that resumes from a checkpoint must have in common with the run that saved it."""

from __future__ import annotations

import json

import numpy as np

from recbole_llmkt.checkpoints import load_checkpoint, saved_vocabulary
from recbole_llmkt.config import Config
from recbole_llmkt.datasets.loading import load_data
from recbole_llmkt.datasets.vocabulary import Vocabulary
from recbole_llmkt.keys.table import IRRELEVANT_KEYS
from recbole_llmkt.utils.exceptions import ConfigError, DataError
from recbole_llmkt.utils.types import Dataset, Loader, Settings

# How long a run trains may change, and the memory that its evaluation takes.
_MAY_CHANGE = {"epochs", "eval_batch_size", "kt_epochs", "pretrain_epochs", "stopping_step"}


def resumed_data(config: Config, path: str) -> tuple[Dataset, Loader, Loader | None, Loader | None]:
    """Read a run's data in the numbering of the checkpoint that it resumes from.

    Ids and the order of the interactions are those of the checkpoint's run, whatever the order in
    the files today. Users and items that are new since then are left out, with a warning.

    Parameters
    ----------
    config : Config
        The run's configuration.
    path : str
        The checkpoint.

    Returns
    -------
    tuple
        As of :func:`~recbole_llmkt.datasets.loading.load_data`.

    Raises
    ------
    ConfigError
        The checkpoint's run had other settings.
    DataError
        The file is no checkpoint of this package, or the interactions have changed.
    """
    checkpoint = load_checkpoint(path)
    _check_settings(checkpoint["config"], config.plain(), path)
    vocabulary = saved_vocabulary(checkpoint, path)
    dataset, train_data, valid_data, test_data = load_data(config, vocabulary)
    _check_rows(vocabulary, dataset, path)
    return dataset, train_data, valid_data, test_data


def _check_settings(saved: Settings, today: Settings, path: str) -> None:
    """Refuse settings that would make it a different run; the trainer checks the profiles."""
    passed_over = IRRELEVANT_KEYS | _MAY_CHANGE
    changed = [
        f"{key} {saved[key]!r} -> {value!r}"
        for key, value in today.items()
        if key in saved
        and key not in passed_over
        and not key.startswith("profile_")
        and json.dumps(value, default=str) != json.dumps(saved[key], default=str)
    ]
    if changed:
        raise ConfigError(
            f"'{path}' was trained with other settings ({', '.join(sorted(changed)[:5])}): resume "
            f"with the same ones (only {', '.join(sorted(_MAY_CHANGE))}, paths and the device may "
            "change), or train from the start."
        )


def _check_rows(vocabulary: Vocabulary, dataset: Dataset, path: str) -> None:
    for feature, saved in vocabulary.rows.items():
        rows = dataset.row_hashes.get(feature, saved[:0])
        if np.array_equal(rows, saved):
            continue
        what = "interactions" if feature == "inter_feat" else "triples of the knowledge graph"
        raise DataError(
            f"'{path}' was trained on other data: of {len(saved):,} {what} that it knows, "
            f"{np.isin(saved, rows).sum():,} are in the current files, which have "
            f"{(~np.isin(rows, saved)).sum():,} others. Restore the atomic files to resume, or "
            "train from the start."
        )
