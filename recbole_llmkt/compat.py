"""Repairs of RecBole 1.2.1 and of PyTorch, each with the place of the fault."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from typing import Any

import torch
from recbole.utils import init_logger
from torch import nn


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
