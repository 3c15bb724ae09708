"""Datasets that the processes of several runs share: read and split once, before they are forked.

A run takes one over if it would have read the same: the class of its dataset and every setting
that reading and splitting asked for are equal, the files have not changed since, and no random
number was drawn. Otherwise it reads its own.
"""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import torch

from recbole_llmkt.compat import create_dataset, dataset_class, pandas_data
from recbole_llmkt.datasets.vocabulary import hash_rows
from recbole_llmkt.utils.types import Dataset, NumberedDataset, RunConfig

# Of the free memory, for the files of a dataset: it takes several times their size.
_SHARE_OF_MEMORY = 0.02

FileState = tuple[str, int, int, int]


class _Asked:
    """A configuration that remembers what it was asked for."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.answers: dict[str, object] = {}

    def __getitem__(self, key: str) -> Any:
        value = self.config[key]
        self.answers.setdefault(key, copy.deepcopy(value))
        return value

    def __contains__(self, key: str) -> bool:
        self.answers.setdefault(key, self.config[key])
        return key in self.config

    def __getattr__(self, name: str) -> Any:
        return getattr(self.config, name)


@dataclass
class _Shared:
    """A dataset, its split, and what both depend on."""

    answers: dict[str, object]
    files: list[FileState]
    dataset: NumberedDataset
    parts: list[Dataset]
    records: list[logging.LogRecord]

    def fits(self, config: RunConfig) -> bool:
        """Tell whether a run would read the same."""
        return (
            type(self.dataset) is dataset_class(config)
            and all(config[key] == value for key, value in self.answers.items())
            and self.files == _file_states(config)
        )

    def handed_to(self, config: RunConfig) -> NumberedDataset:
        """Return the dataset as this run's; its split is made already."""
        logger = logging.getLogger()
        for record in self.records:
            if logger.isEnabledFor(record.levelno):
                logger.handle(record)
        for part in (self.dataset, *self.parts):
            part.config = config
        self.dataset.build = lambda: self.parts  # type: ignore[method-assign]
        return self.dataset


_shared: list[_Shared] = []


def share(config: RunConfig) -> None:
    """Read and split a dataset for the runs that are forked from this process.

    Parameters
    ----------
    config : Config
        Of one of the runs.

    Raises
    ------
    Exception
        Whatever RecBole raises: the runs will say so themselves.
    """
    if any(shared.fits(config) for shared in _shared):
        return
    files = _file_states(config)
    free = psutil.virtual_memory().available
    if not files or sum(size for _, size, *_ in files) > _SHARE_OF_MEMORY * free:
        return  # RecBole would download what is missing
    asked = _Asked(config)
    before = _random_states()
    with _recorded() as records:
        dataset = create_dataset(config, lambda kind: lambda _: kind(asked))
        dataset.row_hashes = hash_rows(dataset)
        with pandas_data():
            parts = dataset.build()
    if _random_states() == before:
        _shared.append(_Shared(asked.answers, files, dataset, parts, records))


def shared_dataset(config: RunConfig) -> NumberedDataset | None:
    """Return the dataset that a run may take over, once; None if there is none."""
    for place, shared in enumerate(_shared):
        if shared.fits(config):
            return _shared.pop(place).handed_to(config)
    return None


def _file_states(config: RunConfig) -> list[FileState]:
    folder = Path(config["data_path"])
    states = [(path.name, path.stat()) for path in sorted(folder.glob("*")) if path.is_file()]
    return [(name, state.st_size, state.st_mtime_ns, state.st_ino) for name, state in states]


def _random_states() -> tuple[object, ...]:
    name, keys, *rest = cast("tuple[object, ...]", np.random.get_state())
    numpys = (name, np.asarray(keys).tobytes(), *rest)
    return random.getstate(), numpys, torch.get_rng_state().tolist()


@contextmanager
def _recorded() -> Iterator[list[logging.LogRecord]]:
    """Keep what the block logs."""
    root = logging.getLogger()
    holder, level = MemoryHandler(100_000, flushLevel=logging.CRITICAL + 1), root.level
    root.addHandler(holder)
    root.setLevel(logging.DEBUG)
    try:
        yield holder.buffer
    finally:
        root.removeHandler(holder)
        root.setLevel(level)
