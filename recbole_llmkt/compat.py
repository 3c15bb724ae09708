"""Repairs of RecBole 1.2.1, each with the place of the fault."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def quiet_pandas() -> None:
    """Silence pandas' announcement that RecBole's chained ``fillna`` ends with pandas 3.

    ``recbole/data/dataset/dataset.py`` calls it for every column it fills; the installation keeps
    pandas below 3, so there is nothing to announce to who trains a model.
    """
    for module in (r"recbole\.data\..*", r"recbole_llmkt\..*"):
        warnings.filterwarnings("ignore", "A value is trying to be set", FutureWarning, module)


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
