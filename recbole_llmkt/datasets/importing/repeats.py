"""Purchases of what the same user had bought before, and what they do to a test."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from recbole.data.dataset import Dataset

from recbole_llmkt.utils.types import IntArray

SPLIT = (0.7, 0.1, 0.2)  # what the written configuration asks for
CHOICES = ("first", "last", "keep")


def in_time_order(inter: pd.DataFrame) -> pd.DataFrame:
    """Return interactions in the order of time; of the file where times are equal or missing.

    RecBole keeps times in single precision, which ties what lies within about two minutes, and
    leaves ties in the order of the file.
    """
    if "timestamp" not in inter:
        return inter
    return inter.sort_values("timestamp", kind="stable")


def without_duplicates(inter: pd.DataFrame) -> pd.DataFrame:
    """Leave out rows with the user, item and time of an earlier row."""
    if "timestamp" not in inter:
        return inter
    return inter.drop_duplicates(["user_id", "item_id", "timestamp"])


def without_repeats(inter: pd.DataFrame, keep: str) -> pd.DataFrame:
    """Keep the first or the last interaction of each user with each item, or all of them."""
    if keep == "keep":
        return inter
    return inter.drop_duplicates(["user_id", "item_id"], keep=keep)  # type: ignore[call-overload, unused-ignore]


def repeated_in_test(inter: pd.DataFrame) -> Mapping[str, float]:
    """Return the share of test interactions whose item the user had before the test.

    Parameters
    ----------
    inter : pandas.DataFrame
        ``user_id`` and ``item_id``, in the order of time.

    Returns
    -------
    mapping of str to float
        By split: "70/10/20" by user and time, and "leave-one-out".
    """
    users, _ = pd.factorize(inter["user_id"])
    order = np.argsort(users, kind="stable")
    counts = np.bincount(users)
    position = np.empty(len(users), dtype=np.int64)
    position[order] = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    first_of_pair = (
        pd.Series(position, index=inter.index)
        .groupby([inter["user_id"], inter["item_id"]], sort=False)
        .transform("min")
    )
    shares = {}
    for name, starts in (
        ("70/10/20", _starts(counts)),
        ("leave-one-out", np.maximum(counts - 1, 1)),
    ):
        start = starts[users]
        in_test = position >= start
        had_before = first_of_pair.to_numpy() < start
        shares[name] = float((in_test & had_before).sum() / max(1, in_test.sum()))
    return shares


def _starts(counts: IntArray) -> IntArray:
    """Return where the test part starts in histories of these lengths, as RecBole splits them."""
    start_of = {
        int(count): Dataset._calcu_split_ids(None, int(count), list(SPLIT))[-1]
        for count in np.unique(counts)
    }
    starts: npt.NDArray[np.int64] = np.array([start_of[int(count)] for count in counts])
    return starts
