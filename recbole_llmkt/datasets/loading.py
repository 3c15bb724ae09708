"""RecBole's datasets and loaders, and its errors as messages that name the fix."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from logging import getLogger
from pathlib import Path

import numpy as np
import torch

from recbole_llmkt.compat import create_dataset, data_preparation
from recbole_llmkt.datasets.checks import check_files, check_loaded, downloadable
from recbole_llmkt.datasets.sharing import shared_dataset
from recbole_llmkt.datasets.vocabulary import Vocabulary, hash_rows, numbered_as
from recbole_llmkt.utils.exceptions import DataError, recbole_refusals
from recbole_llmkt.utils.types import Dataset, Loader, RunConfig

logger = getLogger(__name__)

_ATOMIC = ("inter", "user", "item", "kg", "link", "net")
_PART = 2**20  # bytes
_FULL = "full-"


def load_data(
    config: RunConfig, vocabulary: Vocabulary | None = None, to_evaluate: bool = True
) -> tuple[Dataset, Loader, Loader | None, Loader | None]:
    """Read a dataset and split it, as RecBole does.

    Parameters
    ----------
    config : Config
        The run's configuration.
    vocabulary : Vocabulary, optional
        A checkpoint's: ids and rows get the order of its run, whatever the order in the files;
        ids that it does not have are left out, with a warning.
    to_evaluate : bool
        False saves the time to prepare the evaluation: the loaders of the validation and the test
        part only hold their data.

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
        lambda reason: (
            DataError(
                f"RecBole cannot use the dataset '{config['dataset']}' in "
                f"{os.path.normpath(config['data_path'])}: "
                f"{_plainly(reason)}. Check the atomic files, load_col, eval_args and the filters "
                "(user_inter_num_interval, item_inter_num_interval, val_interval)."
            )
            if Path(config["data_path"]).is_dir()
            else _not_downloaded(config, reason)
        )
    ):
        dataset = _create(config, vocabulary)
        loaders = data_preparation(config, dataset, to_evaluate)
    check_loaded(config, dataset, loaders[0]._dataset)
    return (dataset, *loaders)


def _plainly(reason: str) -> str:
    """Say what PyTorch means where it samples from a training part without a row."""
    nothing = "nothing is left for the training part (a sequential model needs two interactions)"
    return nothing if "num_samples=0" in reason else reason


def _create(config: RunConfig, vocabulary: Vocabulary | None) -> Dataset:
    shared = shared_dataset(config) if vocabulary is None else None
    if shared is not None:
        return shared
    adapt = None if vocabulary is None else functools.partial(numbered_as, vocabulary)
    dataset = create_dataset(config, adapt)
    dataset.row_hashes = hash_rows(dataset)
    if vocabulary is not None:
        vocabulary.restore_order(dataset)
    return dataset


def sample_users(valid_data: Loader | None, count: int | None) -> Loader | None:
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
    loader_class: Callable[..., Loader] = type(valid_data)
    return loader_class(valid_data.config, sampled, valid_data._sampler, shuffle=False)


def download(config: RunConfig) -> None:
    """Download a missing dataset, if RecBole knows where it is, before any run starts.

    Parameters
    ----------
    config : Config
        A run's configuration.

    Raises
    ------
    DataError
        It cannot be downloaded.
    """
    if Path(config["data_path"]).exists() or config["dataset"] not in downloadable():
        return
    try:
        create_dataset(config)
    except OSError as error:
        raise _not_downloaded(config, str(error)) from error


def _not_downloaded(config: RunConfig, reason: str) -> DataError:
    return DataError(
        f"There is no folder {config['data_path']}, and the dataset '{config['dataset']}' cannot "
        f"be downloaded ({reason}). Correct `data_path`, or download it yourself."
    )


def files_digest(folder: Path, dataset: str, recorded: str = "") -> str:
    """Return a digest of all bytes of a dataset's atomic files.

    A file is read again in the same process only if its size, its inode or one of its times has
    changed; that of the last change of any kind cannot be set back.

    Parameters
    ----------
    folder : Path
        The files' folder.
    dataset : str
        The dataset's name.
    recorded : str
        A digest to compare with: the result has its format. Those without ``full-`` are of
        earlier versions, and cover each file's size and its first and last megabyte.

    Returns
    -------
    str
        ``full-`` and BLAKE2b, 8 bytes, hex; "" if there are no files.
    """
    paths = sorted(folder.glob(f"{dataset}.*")) if folder.is_dir() else []
    files = [path for path in paths if path.suffix[1:] in _ATOMIC and path.is_file()]
    if not files:
        return ""
    is_partial = bool(recorded) and not recorded.startswith(_FULL)
    digest = hashlib.blake2b(digest_size=8)
    for path in files:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        digest.update(_ends(path) if is_partial else _file_digest(path))
    return digest.hexdigest() if is_partial else f"{_FULL}{digest.hexdigest()}"


def _file_digest(path: Path) -> bytes:
    state = path.stat()
    return _content_digest(
        str(path), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino
    )


@functools.lru_cache(maxsize=256)
def _content_digest(path: str, size: int, mtime_ns: int, ctime_ns: int, inode: int) -> bytes:
    digest = hashlib.blake2b(digest_size=32)
    with open(path, "rb") as file:
        while part := file.read(_PART):
            digest.update(part)
    return digest.digest()


def _ends(path: Path) -> bytes:
    """Return the first and the last megabyte of a file."""
    with path.open("rb") as file:
        start = file.read(_PART)
        file.seek(max(0, path.stat().st_size - _PART))
        return start + file.read(_PART)
