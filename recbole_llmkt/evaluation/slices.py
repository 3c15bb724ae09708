"""Test metrics of parts of the users and items: by history length, cold users, tail items."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from recbole_llmkt.datasets.history import interaction_counts
from recbole_llmkt.evaluation.per_user import LabelledRows, RankedRows, Recording
from recbole_llmkt.keys.table import SLICES
from recbole_llmkt.utils.types import Dataset, RunConfig

HISTORY, COLD_USERS, TAIL_ITEMS = SLICES
# What a comparison measures unless kt_slices is set: both cost next to nothing.
DEFAULT = (HISTORY, TAIL_ITEMS)
Part = tuple[str, str, npt.NDArray[np.bool_]]
_ORDINALS = ("shortest", "short", "long", "longest")


def tail_items(counts: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.bool_]:
    """Mark the least popular items.

    Of the n items (without the padding) the ``floor(share * n)`` with the fewest training
    interactions are the tail, items without any included; ties go to the lower id.

    Parameters
    ----------
    counts : ndarray of int64, shape (n_items,)
        Training interactions by RecBole's id; entry 0 is the padding.
    share : float
        ``kt_tail_share``, from 0 to 1.

    Returns
    -------
    ndarray of bool, shape (n_items,)

    Examples
    --------
    >>> tail_items(np.array([0, 5, 1, 9, 1]), 0.5)
    array([False, False,  True, False,  True])
    """
    order = np.argsort(counts[1:], kind="stable") + 1
    marked = np.zeros(len(counts), dtype=bool)
    marked[order[: math.floor(share * len(order) + 1e-9)]] = True
    return marked


class SliceMetrics(TypedDict):
    """The metrics of one part of a slice, as :func:`slice_metrics` returns them."""

    slice: str
    part: str
    bounds: str
    users: int
    rows: int
    metrics: dict[str, float]


def wanted_tail(config: RunConfig, train_dataset: Dataset) -> npt.NDArray[np.bool_] | None:
    """Return the tail's mask if ``kt_slices`` asks for it."""
    if TAIL_ITEMS not in config["kt_slices"]:
        return None
    return tail_items(interaction_counts(train_dataset)["item"], config["kt_tail_share"])


def slice_metrics(
    config: RunConfig, recording: Recording, train_dataset: Dataset
) -> list[SliceMetrics]:
    """Measure the slices of ``kt_slices``.

    - ``history``: the test users in quartiles of their number of training interactions; users
      with equal numbers stay together, so parts may differ in size.
    - ``cold_users``: users with at most ``kt_cold_threshold`` training interactions.
    - ``tail_items``: the ranking stays as it is, over all candidates, but only the tail's items
      (:func:`tail_items`) count as relevant; users without such a positive are left out. Of
      labelled interactions: those of the tail's items.

    Ranking metrics are means over users; AUC, LogLoss and the like are pooled over the rows of a
    part, as RecBole pools all rows.

    Parameters
    ----------
    config : Config
        The run's configuration.
    recording : Recording
        Of the test, with :func:`wanted_tail`.
    train_dataset : recbole.data.dataset.Dataset
        The training split.

    Returns
    -------
    list of SliceMetrics
        The name of a ``part`` does not depend on the seed, its ``bounds`` may. Undefined metrics
        and parts without rows are left out.
    """
    if recording.rows is None:
        return []
    measured = []
    for name in config["kt_slices"]:
        ranked_tail = name == TAIL_ITEMS and isinstance(recording.rows, RankedRows)
        rows = recording.tail_rows if ranked_tail else recording.rows
        if rows is not None:
            parts = _parts(config, name, rows, train_dataset)
            measured += [_measure(name, rows, part) for part in parts if part[2].any()]
    return measured


def _parts(
    config: RunConfig, name: str, rows: RankedRows | LabelledRows, train_dataset: Dataset
) -> Iterator[Part]:
    """Yield the name, the bounds and the rows of each part of a slice."""
    if name == TAIL_ITEMS:
        share = f"the {config['kt_tail_share']:.0%} least popular items"
        if isinstance(rows, RankedRows):  # their relevant items are already those of the tail
            yield "tail items", share, np.ones(len(rows.users), dtype=bool)
        else:
            tail = wanted_tail(config, train_dataset)
            assert tail is not None
            yield "tail items", share, tail[rows.items]
        return
    counts = interaction_counts(train_dataset)["user"]
    history = counts[rows.users]
    if name == COLD_USERS:
        most = config["kt_cold_threshold"]
        yield "cold users", f"at most {most} training interactions", history <= most
        return
    quartile = np.searchsorted(
        np.quantile(counts[np.unique(rows.users)], [0.25, 0.5, 0.75]), history
    )
    for number, ordinal in enumerate(_ORDINALS):
        mask = quartile == number
        if mask.any():
            bounds = f"{history[mask].min()} to {history[mask].max()} training interactions"
            yield f"{ordinal} histories", bounds, mask


def _measure(name: str, rows: RankedRows | LabelledRows, part: Part) -> SliceMetrics:
    label, bounds, mask = part
    return {
        "slice": name,
        "part": label,
        "bounds": bounds,
        "users": len(np.unique(rows.users[mask])),
        "rows": int(mask.sum()),
        "metrics": {key: value for key, value in rows.metrics(mask).items() if value == value},
    }
