"""RecBole's own functions, called so that they work here as documented."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from logging import getLogger
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from unittest.mock import patch

import colorama
import psutil
import recbole.data.utils as recbole_data
import torch
from colorama.ansitowin32 import StreamWrapper
from recbole.data.dataloader.general_dataloader import FullSortEvalDataLoader
from recbole.utils import ModelType, get_environment, get_tensorboard, init_logger

from recbole_llmkt.compat.arrays import scipy_matrices
from recbole_llmkt.compat.pandas import pandas_data
from recbole_llmkt.compat.pickles import pickles_refused
from recbole_llmkt.compat.processes import joined_model
from recbole_llmkt.compat.replacing import replaced
from recbole_llmkt.compat.torch import torch_quiet
from recbole_llmkt.utils.files import make_writable, storing
from recbole_llmkt.utils.progress import WIDGETS, tqdm
from recbole_llmkt.utils.types import Dataset, Loader, NumberedDataset, RunConfig

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

logger = getLogger(__name__)

_get_dataloader = recbole_data.get_dataloader
_init_ranking_batches = FullSortEvalDataLoader._init_batch_size_and_step
# Pairs of user and item that are ranked at once by default: scores of 4 MB.
_PAIRS_AT_ONCE = 1 << 20

# The dataset class that recbole/data/utils.py, create_dataset, picks by the type of the model.
_DATASET_CLASSES = {
    ModelType.SEQUENTIAL: "SequentialDataset",
    ModelType.KNOWLEDGE: "KnowledgeBasedDataset",
}


class LoggingTrainer(Protocol):
    """What is needed of RecBole's ``Trainer``."""

    checkpoint_dir: str
    tensorboard: SummaryWriter | _NoTensorBoard


def start_log(config: RunConfig) -> None:
    """Start RecBole's log while other processes may be doing the same.

    ``ensure_dir`` in ``recbole/utils/utils.py`` looks for a folder and then makes it, and fails if
    another process made it in between (no upstream issue is known). Of several processes that
    train together the first one has a log; the others' errors go to the terminal.
    """
    if config["local_rank"] != 0:
        logging.basicConfig(level=logging.ERROR)
        return
    log = Path("log", config["model"])
    # The folder that the user chose comes first: where it cannot be made, there is no log, either.
    make_writable(Path(config["checkpoint_dir"]), "checkpoint_dir")
    make_writable(Path("log_tensorboard"))
    make_writable(log)
    with storing(log), _own_colours():
        init_logger(config)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handleError = _LogErrors(handler)  # type: ignore[method-assign]


@contextmanager
def recbole_bars() -> Iterator[None]:
    """Make the bars of RecBole's trainer widgets in notebooks, as ours are."""
    if not WIDGETS:
        yield
        return
    with replaced(importlib.import_module("recbole.trainer.trainer"), "tqdm", tqdm):
        yield


@contextmanager
def _own_colours() -> Iterator[None]:
    """Keep ``init_logger`` from wrapping the output again with each run, and heed ``NO_COLOR``.

    ``recbole/utils/logger.py`` calls ``colorama.init`` each time, which wraps what it wrapped
    before, until a line of the thousandth run has no stack left (no upstream issue is known).
    What it wraps keeps its colours where they are not wanted (https://no-color.org).
    """
    init: Callable[..., None] = colorama.init
    if isinstance(sys.stdout, StreamWrapper):
        init = _wrapped_already
    elif os.environ.get("NO_COLOR"):
        init = functools.partial(colorama.init, strip=True)
    with replaced(importlib.import_module("recbole.utils.logger"), "init", init):
        yield


def _wrapped_already(**keywords: object) -> None:
    """Do nothing in the place of ``colorama.init``."""


class _LogErrors:
    """What a log file does that cannot be written: one line says so, where logging prints many."""

    def __init__(self, handler: logging.FileHandler) -> None:
        self._handler = handler
        self._handled = False

    def __call__(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            logging.FileHandler.handleError(self._handler, record)
        elif not self._handled:
            self._handled = True
            reason = f"{self._handler.baseFilename} cannot be written: {error.strerror}"
            sys.stderr.write(f"WARNING: {reason}. Training continues without this log.\n")


@contextmanager
def making_trainer(device: torch.device) -> Iterator[None]:
    """Keep RecBole's trainer from making folders: a run may still be refused when it is made.

    ``Trainer.__init__`` in ``recbole/trainer/trainer.py`` makes ``checkpoint_dir`` and
    TensorBoard's files. :func:`make_folders` makes them when all checks have passed.

    Parameters
    ----------
    device : torch.device
        The run's.
    """
    trainer = importlib.import_module("recbole.trainer.trainer")
    nothing: Callable[[object], None] = lambda argument: None  # noqa: E731
    with ExitStack() as stack:
        stack.enter_context(replaced(trainer, "ensure_dir", nothing))
        stack.enter_context(replaced(trainer, "get_tensorboard", nothing))
        stack.enter_context(joined_model(device))
        yield


class _NoTensorBoard:
    """In the place of TensorBoard's writer, for a process that writes nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **keywords: None


def make_folders(trainer: LoggingTrainer, writes: bool = True) -> None:
    """Make what RecBole's trainer writes into: its folder of checkpoints and TensorBoard's files.

    Parameters
    ----------
    trainer : recbole.trainer.Trainer
        Made within :func:`making_trainer`.
    writes : bool
        False for a process that leaves all writing to another one.
    """
    if not writes:
        trainer.tensorboard = _NoTensorBoard()
        return
    make_writable(Path(trainer.checkpoint_dir), "checkpoint_dir")
    with storing(Path("log_tensorboard")):
        trainer.tensorboard = get_tensorboard(getLogger())


@contextmanager
def log_held_back(config: RunConfig) -> Iterator[None]:
    """Hold back what the block logs until it succeeds, and start RecBole's log then.

    RecBole starts its log, and with it makes folders, before it reads the data: wrong input then
    leaves them behind. Where a program has its own log, records go there at once.
    """
    root = logging.getLogger()
    if root.handlers:
        yield
        start_log(config)
        return
    holder = MemoryHandler(capacity=100_000, flushLevel=logging.CRITICAL + 1)
    level = root.level
    root.addHandler(holder)
    root.setLevel(logging.DEBUG if str(config["state"]).lower() == "debug" else logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(holder)
        root.setLevel(level)
    start_log(config)
    for record in holder.buffer:
        if root.isEnabledFor(record.levelno):
            root.handle(record)


def create_dataset(
    config: RunConfig, adapt: Callable[[type], Callable[[RunConfig], NumberedDataset]] | None = None
) -> NumberedDataset:
    """Read a run's dataset from its atomic files, as RecBole does, and from nothing else.

    ``create_dataset`` in ``recbole/data/utils.py`` unpickles ``dataset_save_path``, or any file
    ``<checkpoint_dir>/<dataset>-<class>.pth`` that it finds. Unpickling a file runs whatever
    code it carries, so no such file is read here.

    Parameters
    ----------
    config : Config
        The run's configuration.
    adapt : callable, optional
        Returns what makes the dataset in the place of the class that RecBole picks.

    Returns
    -------
    recbole.data.dataset.Dataset
    """
    kind = dataset_class(config)
    _note_cache(config, f"{config['dataset']}-{kind.__name__}.pth")
    with pickles_refused(), pandas_data():
        dataset: NumberedDataset = (adapt(kind) if adapt else kind)(config)
    return dataset


def dataset_class(config: RunConfig) -> type:
    """Return the class of a run's dataset: RecBole picks it by the model."""
    module = importlib.import_module("recbole.data.dataset")
    name = config["model"] + "Dataset"
    if not hasattr(module, name):
        name = _DATASET_CLASSES.get(config["MODEL_TYPE"], "Dataset")
    kind: type = getattr(module, name)
    return kind


def data_preparation(
    config: RunConfig, dataset: Dataset, to_evaluate: bool = True
) -> tuple[Loader, Loader, Loader]:
    """Split a dataset and make its loaders, as RecBole does, from the atomic files alone.

    ``load_split_dataloaders`` in ``recbole/data/utils.py`` unpickles ``dataloaders_save_path``, or
    any file ``<checkpoint_dir>/<dataset>-for-<model>-dataloader.pth`` that it finds.

    Parameters
    ----------
    config : Config
        The run's configuration.
    dataset : recbole.data.dataset.Dataset
        Of :func:`create_dataset`.
    to_evaluate : bool
        False leaves out what the loaders of the validation and the test part prepare for each
        user: they only hold their data.

    Returns
    -------
    tuple of AbstractDataLoader
        Loaders of the training, validation and test part.
    """
    _note_cache(config, f"{config['dataset']}-for-{config['model']}-dataloader.pth")
    with ExitStack() as stack:
        stack.enter_context(patch.object(recbole_data, "load_split_dataloaders", lambda _: None))
        stack.enter_context(pandas_data())
        if ranks_fast(config) and not config.says("eval_batch_size"):
            target = (FullSortEvalDataLoader, "_init_batch_size_and_step")
            stack.enter_context(replaced(*target, _fit_items))
        if not to_evaluate:
            stack.enter_context(patch.object(recbole_data, "get_dataloader", _training_alone))
        loaders: tuple[Loader, Loader, Loader] = recbole_data.data_preparation(config, dataset)
    return loaders


def ranks_fast(config: RunConfig) -> bool:
    """Tell what ``kt_fast_ranking`` means in a run."""
    wanted = config["kt_fast_ranking"]
    return config["kt_enabled"] if wanted is None else wanted


def _fit_items(loader: FullSortEvalDataLoader) -> None:
    """Rank many users at once: RecBole's default of 4096 pairs is one user at 3,000 items."""
    _init_ranking_batches(loader)
    if not loader.is_sequential:  # there the batch counts users
        n_items = loader._dataset.item_num
        loader.step = max(loader.step, _PAIRS_AT_ONCE // n_items)
        loader.set_batch_size(loader.step * n_items)


def _training_alone(config: RunConfig, phase: str) -> type:
    return _get_dataloader(config, phase) if phase == "train" else _Part


class _Part:
    """A part of the data in the place of its loader."""

    def __init__(self, config: RunConfig, dataset: Dataset, sampler: object, shuffle: bool) -> None:
        self.config, self._dataset, self._sampler = config, dataset, sampler


def _note_cache(config: RunConfig, name: str) -> None:
    path = Path(config["checkpoint_dir"], name)
    if path.exists():
        logger.warning(
            "%s is not read: stock RecBole caches data there as a pickle, and a pickle can run "
            "any code. The atomic files are read instead.",
            path,
        )


def environment_table(config: RunConfig) -> str:
    """Return RecBole's table of the load of the processors, the GPU and the memory.

    ``get_environment`` in ``recbole/utils/utils.py`` waits a second for the load of the
    processors; here it is the load since the last table, or since the program started.
    """
    load = psutil.cpu_percent
    with patch.object(psutil, "cpu_percent", lambda interval: load()):
        table: str = get_environment(config).draw()
    return table


@contextmanager
def building_model() -> Iterator[None]:
    """Let the block build a model of RecBole's, whatever scipy there is, and run no pickle."""
    with pickles_refused(), scipy_matrices(), torch_quiet():
        yield
