"""RecBole's datasets and loaders, with each refusal as one clear error."""

from __future__ import annotations

import functools
import hashlib
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_llmkt.compat import create_dataset, data_preparation
from recbole_llmkt.datasets.checks import check_files, check_loaded, downloadable
from recbole_llmkt.datasets.vocabulary import Vocabulary, hash_rows, numbered_as
from recbole_llmkt.utils.exceptions import DataError, recbole_refusals

logger = getLogger(__name__)

_ATOMIC = ("inter", "user", "item", "kg", "link", "net")
_PART = 2**20  # bytes


def load_data(config: Any, vocabulary: Vocabulary | None = None) -> tuple[Any, Any, Any, Any]:
    """Read a dataset and split it, as RecBole does.

    Parameters
    ----------
    config : Config
        The run's configuration.
    vocabulary : Vocabulary, optional
        A checkpoint's: ids and the order of rows are as in its run, whatever the order in the
        files today; what it does not know is left out, with a warning.

    Returns
    -------
    tuple
        The dataset and the loaders of its training, validation and test part.

    Raises
    ------
    DataError
        A file or a column is missing, or RecBole cannot use what is there.
    """
    check_files(config)
    with recbole_refusals(
        lambda reason: DataError(
            f"RecBole cannot use the dataset '{config['dataset']}' in {config['data_path']}: "
            f"{reason}. Check the atomic files, load_col, eval_args and the filters "
            "(user_inter_num_interval, item_inter_num_interval, val_interval)."
        )
    ):
        dataset = _create(config, vocabulary)
        loaders = data_preparation(config, dataset)
    check_loaded(config, dataset, loaders[0]._dataset)
    return (dataset, *loaders)


def _create(config: Any, vocabulary: Vocabulary | None) -> Any:
    adapt = None if vocabulary is None else functools.partial(numbered_as, vocabulary)
    dataset = create_dataset(config, adapt)
    dataset.row_hashes = hash_rows(dataset)
    if vocabulary is not None:
        vocabulary.restore_order(dataset)
    return dataset


def sample_users(valid_data: Any, count: int | None) -> Any:
    """Return a loader of the validation part with some of its users.

    The users depend on the data alone, so all arms and seeds of a comparison have the same ones.

    Parameters
    ----------
    valid_data : AbstractDataLoader or None
        RecBole's loader of the validation part.
    count : int or None
        ``kt_valid_users``; None keeps all of them.

    Returns
    -------
    AbstractDataLoader or None
        ``valid_data`` itself where it has no more users than that.
    """
    if valid_data is None or count is None:
        return valid_data
    part = valid_data._dataset
    owners = part.inter_feat[part.uid_field].numpy()
    users = np.unique(owners)
    if len(users) <= count:
        return valid_data
    chosen = np.random.default_rng(0).choice(users, count, replace=False)
    logger.info("Validation on %s of %s users (kt_valid_users).", f"{count:,}", f"{len(users):,}")
    sampled = part.copy(part.inter_feat[torch.from_numpy(np.isin(owners, chosen))])
    return type(valid_data)(valid_data.config, sampled, valid_data._sampler, shuffle=False)


def download(config: Any) -> None:
    """Fetch a dataset that is not there and that RecBole knows where to get, once and for all runs.

    Parameters
    ----------
    config : Config
        A run's configuration.

    Raises
    ------
    DataError
        It cannot be fetched.
    """
    if Path(config["data_path"]).exists() or config["dataset"] not in downloadable():
        return
    try:
        create_dataset(config)
    except OSError as error:
        raise DataError(
            f"There is no folder {config['data_path']}, and the dataset '{config['dataset']}' "
            f"cannot be downloaded ({error}). Correct `data_path`, or fetch it elsewhere."
        ) from error


def files_digest(folder: Path, dataset: str) -> str:
    """Return a digest of a dataset's atomic files: sizes, and the first and the last megabyte.

    Parameters
    ----------
    folder : Path
        Where they are.
    dataset : str
        The dataset's name.

    Returns
    -------
    str
        BLAKE2b, 8 bytes, hex; "" where there are no files.
    """
    found = sorted(folder.glob(f"{dataset}.*")) if folder.is_dir() else []
    files = [path for path in found if path.suffix[1:] in _ATOMIC and path.is_file()]
    stamps = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return _digest_files(stamps) if stamps else ""


@functools.lru_cache(maxsize=64)
def _digest_files(stamps: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, size, _ in stamps:
        digest.update(f"{Path(name).name} {size}\n".encode())
        with open(name, "rb") as file:
            digest.update(file.read(_PART))
            file.seek(max(0, size - _PART))
            digest.update(file.read(_PART))
    return digest.hexdigest()
