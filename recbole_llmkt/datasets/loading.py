"""RecBole's datasets and loaders, with each refusal as one clear error."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import recbole
import torch
from recbole.utils import ModelType

from recbole_llmkt.compat import create_dataset, data_preparation
from recbole_llmkt.datasets.vocabulary import Vocabulary, hash_rows, numbered_as
from recbole_llmkt.utils.exceptions import DataError, LLMKTError, nearest
from recbole_llmkt.utils.parsing import load_yaml

logger = getLogger(__name__)

_ATOMIC = ("inter", "user", "item", "kg", "link", "net")
_PART = 2**20  # bytes
_REFUSALS = (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError)


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
    try:
        dataset = _create(config, vocabulary)
        loaders = data_preparation(config, dataset)
    except (LLMKTError, NotImplementedError):
        raise
    except _REFUSALS as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(" .")
        raise DataError(
            f"RecBole cannot use the dataset '{config['dataset']}' in {config['data_path']}: "
            f"{reason}. Check the atomic files, load_col, eval_args and the filters "
            "(user_inter_num_interval, item_inter_num_interval, val_interval)."
        ) from error
    _check_label(config, loaders[0])
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
    if Path(config["data_path"]).exists() or config["dataset"] not in _downloads():
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


def _check_label(config: Any, train_data: Any) -> None:
    """See that a context-aware model has something to predict."""
    sampled = config["train_neg_sample_args"].get("distribution", "none") != "none"
    known = sampled or config["LABEL_FIELD"] in train_data._dataset.inter_feat.interaction
    if config["MODEL_TYPE"] == ModelType.CONTEXT and not known:
        raise DataError(
            f"{config['model']} learns from labels, and the interactions of '{config['dataset']}' "
            f"have no column '{config['LABEL_FIELD']}'. Make one from another column (threshold: "
            "{rating: 4}), name it (LABEL_FIELD), or sample negatives (train_neg_sample_args)."
        )


def check_files(config: Any) -> None:
    """Make sure that the atomic files and the columns that a run asks for are there.

    Raises
    ------
    DataError
        Naming the file or the column, where it was looked for, and the mend.
    """
    folder = Path(config["data_path"])
    if not folder.is_dir():
        if config["dataset"] in _downloads():
            return
        raise DataError(
            f"There is no dataset '{config['dataset']}': the folder {folder} does not exist. Put "
            f"{config['dataset']}.inter there, or correct `dataset` or `data_path`."
        )
    for source, columns in _wanted(config).items():
        for path in _files(config, source):
            if not path.is_file():
                raise DataError(
                    f"There is no file {path}. Add it in RecBole's atomic format (a header like "
                    f"user_id:token<TAB>item_id:token), or correct `data_path` or `load_col`."
                )
            _check_columns(config, path, columns)


def _downloads() -> dict[str, Any]:
    """Return the datasets that RecBole knows how to download."""
    return load_yaml(Path(recbole.__file__).parent / "properties" / "dataset" / "url.yaml")


def _wanted(config: Any) -> dict[str, dict[str, str]]:
    """Return for each atomic file the columns that must be there, and the key that wants them."""
    wanted: dict[str, dict[str, str]] = {"inter": {}}
    for source, columns in (config["load_col"] or {}).items():
        listed = [] if columns in (None, "*") else columns
        wanted[source] = dict.fromkeys(listed, f"load_col, {source}")
    keys = ["USER_ID_FIELD", "ITEM_ID_FIELD"]
    by_time = (config["eval_args"] or {}).get("order") == "TO"
    if by_time and not config["benchmark_filename"]:
        keys.append("TIME_FIELD")
    wanted["inter"].update({config[key]: key for key in keys if config[key]})
    return wanted


def _files(config: Any, source: str) -> Iterator[Path]:
    stem = Path(config["data_path"]) / config["dataset"]
    parts = config["benchmark_filename"] if source == "inter" else None
    for part in parts or [None]:
        yield stem.with_name(f"{stem.name}.{part}.{source}" if part else f"{stem.name}.{source}")


def _check_columns(config: Any, path: Path, columns: dict[str, str]) -> None:
    with path.open(encoding=config["encoding"] or "utf-8", errors="replace") as file:
        header = file.readline().rstrip("\r\n")
    known = [name.partition(":")[0] for name in header.split(config["field_separator"] or "\t")]
    for column, key in columns.items():
        if column not in known:
            raise DataError(
                f"{path} has no column '{column}' ({key}).{nearest(column, known)} Its columns "
                f"are {', '.join(known)}: correct {key.partition(',')[0]} or the file's header."
            )
