"""Repairs of RecBole 1.2.1 and of PyTorch, each with the place of the fault."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import getLogger
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import recbole.data.utils as recbole_data
import torch
from recbole.utils import ModelType, init_logger
from torch import nn

from recbole_llmkt.utils.exceptions import DataError

logger = getLogger(__name__)

# The dataset class that recbole/data/utils.py, create_dataset, picks by the type of the model.
_DATASET_CLASSES = {
    ModelType.SEQUENTIAL: "SequentialDataset",
    ModelType.KNOWLEDGE: "KnowledgeBasedDataset",
}
_ZIP_SIGNATURE = b"PK\x03\x04"


def quiet_pandas() -> None:
    """Silence pandas' announcement that RecBole's chained ``fillna`` ends with pandas 3.

    ``recbole/data/dataset/dataset.py`` calls it for every column it fills; the installation keeps
    pandas below 3, so there is nothing to announce to who trains a model.
    """
    for module in (r"recbole\.data\..*", r"recbole_llmkt\..*"):
        warnings.filterwarnings("ignore", "A value is trying to be set", FutureWarning, module)


def start_log(config: Any) -> None:
    """Start RecBole's log, beside other processes that may just be doing the same.

    ``ensure_dir`` in ``recbole/utils/utils.py`` looks for a folder and then makes it, and fails if
    another process made it in between (no upstream issue is known).
    """
    for folder in (os.path.join("log", config["model"]), config["checkpoint_dir"]):
        os.makedirs(folder, exist_ok=True)
    init_logger(config)


@contextmanager
def log_held_back(config: Any) -> Iterator[None]:
    """Hold back what the block logs until it has ended well, and start RecBole's log then.

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


def forget_computed(model: nn.Module) -> None:
    """Forget what a model keeps of its own weights, because they have just changed.

    ``kgin.py`` and ``mcclk.py`` keep users' and entities' vectors from one batch of an evaluation
    to the next. Unlike other models they do not name them in ``other_parameter_name``, so after
    loading the best checkpoint stock RecBole tests with the vectors of the last epoch (no upstream
    issue is known).
    """
    named = getattr(model, "other_parameter_name", None) or ()
    for name, value in vars(model).items():
        if name.startswith("restore_") and name not in named and isinstance(value, torch.Tensor):
            setattr(model, name, None)


def complete_adagrad(optimizer: torch.optim.Optimizer) -> None:
    """Give Adagrad the state of parameters that joined it after it was made.

    Up to some version PyTorch makes it in the constructor alone, and the first step fails
    (pytorch/pytorch issue 53712).
    """
    if not isinstance(optimizer, torch.optim.Adagrad):
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            if "sum" not in state:
                start = group.get("initial_accumulator_value", 0.0)
                state["step"] = torch.tensor(0.0)
                state["sum"] = torch.full_like(parameter, start)


@contextmanager
def anomaly_detection_kept() -> Iterator[None]:
    """Leave torch's anomaly detection as it was, whatever the block imports.

    ``recbole/model/sequential_recommender/sine.py`` turns it on for the whole process when it is
    imported, with all other sequential models (a line of debugging that stayed; no upstream issue
    is known). Training gives the same numbers without it, two to eight times faster.
    """
    enabled = torch.is_anomaly_enabled()
    check_nan = torch.is_anomaly_check_nan_enabled()
    try:
        yield
    finally:
        torch.autograd.set_detect_anomaly(enabled, check_nan)  # type: ignore[no-untyped-call]


def trained_parts(config: Any, epoch: int) -> int | None:
    """Return where the trained parts of a model's loss end, as a slice says it; None: all are.

    ``NCLTrainer`` in ``recbole/trainer/trainer.py`` drops the last part during its warm-up.
    """
    return -1 if config["model"] == "NCL" and epoch < config["warm_up_step"] else None


# ---- pickles ------------------------------------------------------------------------------------


def create_dataset(config: Any, adapt: Callable[[type], type] | None = None) -> Any:
    """Read a run's dataset from its atomic files, as RecBole does, and from nothing else.

    ``create_dataset`` in ``recbole/data/utils.py`` unpickles ``dataset_save_path``, or any file
    ``<checkpoint_dir>/<dataset>-<class>.pth`` that it finds. Unpickling a file runs whatever
    code it carries, so no such file is read here.

    Parameters
    ----------
    config : Config
        The run's configuration.
    adapt : callable, optional
        Returns a subclass of the class that RecBole picks, to be used in its place.

    Returns
    -------
    recbole.data.dataset.Dataset
    """
    module = importlib.import_module("recbole.data.dataset")
    name = config["model"] + "Dataset"
    if not hasattr(module, name):
        name = _DATASET_CLASSES.get(config["MODEL_TYPE"], "Dataset")
    _note_cache(config, f"{config['dataset']}-{name}.pth")
    dataset_class: type = getattr(module, name)
    with pickles_refused():
        return (adapt(dataset_class) if adapt else dataset_class)(config)


def data_preparation(config: Any, dataset: Any) -> tuple[Any, Any, Any]:
    """Split a dataset and make its loaders, as RecBole does, from the atomic files alone.

    ``load_split_dataloaders`` in ``recbole/data/utils.py`` unpickles ``dataloaders_save_path``, or
    any file ``<checkpoint_dir>/<dataset>-for-<model>-dataloader.pth`` that it finds.

    Parameters
    ----------
    config : Config
        The run's configuration.
    dataset : recbole.data.dataset.Dataset
        Of :func:`create_dataset`.

    Returns
    -------
    tuple of AbstractDataLoader
        Loaders of the training, validation and test part.
    """
    _note_cache(config, f"{config['dataset']}-for-{config['model']}-dataloader.pth")
    with patch.object(recbole_data, "load_split_dataloaders", lambda config: None):
        loaders: tuple[Any, Any, Any] = recbole_data.data_preparation(config, dataset)
    return loaders


def _note_cache(config: Any, name: str) -> None:
    path = Path(config["checkpoint_dir"], name)
    if path.exists():
        logger.warning(
            "%s is not read: stock RecBole caches data there as a pickle, and a pickle can run "
            "any code. The atomic files are read instead.",
            path,
        )


@contextmanager
def pickles_refused() -> Iterator[None]:
    """Refuse every pickle that RecBole reads within the block.

    Several models load weights of an earlier training inside their constructors, with
    ``torch.load`` and no ``weights_only`` (``ract.py``, ``neumf.py``, ``nais.py``, ``convncf.py``,
    ``kd_dagfm.py``, ``s3rec.py``), or ``np.load(..., allow_pickle=True)`` (``ldiffrec.py``). Here
    ``torch.load`` reads tensors and plain values only, and ``np.load`` numbers only.

    Raises
    ------
    DataError
        Naming the file that holds something else.
    """
    load_array = np.load

    @functools.wraps(load_array)
    def load_numbers(file: Any, *arguments: Any, **keywords: Any) -> Any:
        try:
            return load_array(file, *arguments[:1], **{**keywords, "allow_pickle": False})
        except ValueError as error:
            raise DataError(_refusal(file)) from error

    @functools.wraps(torch.load)
    def load_tensors(file: Any, *arguments: Any, **keywords: Any) -> Any:
        return load_plain(file, keywords.get("map_location"))

    def refuse(file: Any, *arguments: Any, **keywords: Any) -> Any:
        raise DataError(_refusal(getattr(file, "name", file)))

    patches: list[tuple[Any, str, Callable[..., Any]]] = [
        (np, "load", load_numbers),
        (torch, "load", load_tensors),
        (pickle, "load", refuse),
    ]
    undone = [(module, name, getattr(module, name)) for module, name, _ in patches]
    try:
        for module, name, function in patches:
            setattr(module, name, function)
        yield
    finally:
        for module, name, function in undone:
            setattr(module, name, function)


def _refusal(file: Any) -> str:
    return (
        f"'{file}' is a pickle, which can run any code when it is read, so it is not. Name a file "
        "that holds tensors and plain values only, such as a checkpoint of recbole_llmkt."
    )


_load_torch = torch.load


def load_plain(path: str | os.PathLike[str], device: Any = None) -> Any:
    """Read a file of ``torch.save`` that holds tensors and plain values only.

    Before version 2.6, PyTorch runs code from files of its oldest formats even with
    ``weights_only=True`` (CVE-2025-32434): only its zip format is read.

    Parameters
    ----------
    path : str or path
        The file.
    device : torch.device or str, optional
        Where its tensors go.

    Raises
    ------
    DataError
        It holds anything else, or is not in the zip format.
    OSError
        It cannot be opened.
    """
    with open(path, "rb") as file:
        signature = file.read(len(_ZIP_SIGNATURE))
    if signature != _ZIP_SIGNATURE:
        raise DataError(f"Cannot read '{path}': it is not a file of torch.save (zip format).")
    try:
        return _load_torch(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(_refusal(path)) from error
