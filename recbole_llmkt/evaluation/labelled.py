"""Metrics of labelled interactions, user by user, for all users at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from recbole.evaluator.metrics import AUC, MAE, RMSE, LogLoss

from recbole_llmkt.utils.types import FloatArray, IntArray, Matrix

RowLoss = Callable[[Matrix, Matrix], Matrix]


def _log_loss(scores: Matrix, labels: Matrix) -> Matrix:
    """Return the terms of RecBole's ``LogLoss``."""
    scores = np.clip(scores, 1e-15, 1 - 1e-15)
    return np.asarray(-labels * np.log(scores) - (1 - labels) * np.log(1 - scores))


# A metric that is a mean over rows: the loss of each row, and what the mean is passed through.
_MEANS: dict[type, tuple[RowLoss, Callable[[FloatArray], FloatArray]]] = {
    MAE: (lambda scores, labels: np.abs(labels - scores), np.asarray),
    RMSE: (lambda scores, labels: (labels - scores) ** 2, np.sqrt),
    LogLoss: (_log_loss, np.asarray),
}


def is_vectorised(metric: object) -> bool:
    """Return whether :func:`metric_by_group` knows a metric: RecBole's own class, no subclass."""
    return type(metric) is AUC or type(metric) in _MEANS


def metric_by_group(metric: object, group: IntArray, scores: Matrix, labels: Matrix) -> FloatArray:
    """Return one of RecBole's metrics for each group of rows.

    Parameters
    ----------
    metric : LossMetric
        One for which :func:`is_vectorised` holds.
    group : ndarray of int64, shape (n_rows,)
        The group of each row, from 0; none is empty.
    scores, labels : ndarray of float32, shape (n_rows,)
        Prediction and truth.

    Returns
    -------
    ndarray of float64, shape (n_groups,)
        As RecBole's own code gives for the rows of a group alone, but for rounding; NaN where it
        is undefined (AUC of a single label).
    """
    if type(metric) is AUC:
        return auc_by_group(group, scores, labels)
    row_loss, finish = _MEANS[type(metric)]
    with np.errstate(divide="ignore", invalid="ignore"):  # a score of 1 for a label of 0
        sums = np.bincount(group, weights=row_loss(scores, labels))
    return finish(sums / np.bincount(group))


def auc_by_group(group: IntArray, scores: Matrix, labels: Matrix) -> FloatArray:
    """Return the area under the ROC curve for each group of rows; NaN for a single label.

    It is the share of pairs of a positive and a negative row that the scores rank correctly, ties
    counting half, by the sum of the positives' ranks (Mann and Whitney, 1947).

    Parameters
    ----------
    group : ndarray of int64, shape (n_rows,)
        The group of each row, from 0; none is empty.
    scores, labels : ndarray of float32, shape (n_rows,)
        Prediction and truth; a label of 1 is positive.

    Returns
    -------
    ndarray of float64, shape (n_groups,)

    Examples
    --------
    >>> group = np.array([0, 0, 0, 1, 1])
    >>> auc_by_group(group, np.array([0.9, 0.1, 0.1, 0.5, 0.4]), np.array([1, 0, 1, 1, 1]))
    array([0.75,  nan])
    """
    order = np.lexsort((scores, group))
    positive = labels[order] == 1
    rows = np.bincount(group)
    positives = np.bincount(group[order], weights=positive)
    ranks = _ranks(group[order], scores[order], rows)
    rank_sums = np.bincount(group[order], weights=ranks * positive)
    pairs = positives * (rows - positives)
    correct = rank_sums - positives * (positives + 1) / 2
    auc = np.full(len(rows), np.nan)
    np.divide(correct, pairs, out=auc, where=pairs > 0)
    return auc


def _ranks(group: IntArray, scores: Matrix, rows: npt.NDArray[np.intp]) -> FloatArray:
    """Return the rank of each row in its group, from 1; tied rows share their mean rank.

    Rows are sorted by group, then by score.
    """
    starts = np.flatnonzero(np.r_[True, (np.diff(group) != 0) | (np.diff(scores) != 0)])
    sizes = np.diff(np.r_[starts, len(group)])
    middles = starts + (sizes - 1) / 2
    first_rows = np.cumsum(rows) - rows
    return np.asarray(np.repeat(middles, sizes) - first_rows[group] + 1)
