"""Faults of PyTorch, and what RecBole does to it for the whole process."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def complete_adagrad(optimizer: torch.optim.Optimizer) -> None:
    """Give Adagrad the state of parameters that joined it after its construction.

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


def autocasts(device: str) -> bool:
    """Tell whether autocast is on for a type of devices.

    Up to 2.3 PyTorch's ``is_autocast_enabled`` speaks of CUDA alone.

    Parameters
    ----------
    device : str
        Such as ``"cpu"`` or ``"cuda"``.
    """
    try:
        return torch.is_autocast_enabled(device)
    except TypeError:
        older = {"cpu": torch.is_autocast_cpu_enabled, "cuda": torch.is_autocast_enabled}
        return older[device]() if device in older else True


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


@contextmanager
def torch_quiet() -> Iterator[None]:
    """Silence PyTorch's announcements of names that RecBole uses, for the length of the block.

    ``recbole/trainer/trainer.py``, ``Trainer._train_epoch`` makes a ``torch.cuda.amp.GradScaler``
    in every epoch, also without mixed precision; the graph models in
    ``recbole/model/general_recommender`` make their matrices with ``torch.sparse.FloatTensor``.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.cuda\.amp\.", FutureWarning)
        warnings.filterwarnings("ignore", r"torch\.sparse\.SparseTensor", UserWarning)
        yield
