"""Test metrics user by user, recorded during RecBole's own evaluation: no second pass."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from recbole.evaluator.base_metric import AbstractMetric, LossMetric, TopkMetric
from recbole.evaluator.collector import Collector, DataStruct
from recbole.evaluator.evaluator import Evaluator

from recbole_llmkt.datasets.history import interaction_counts
from recbole_llmkt.evaluation.labelled import is_vectorised, metric_by_group
from recbole_llmkt.utils.arrays import check_array, read_arrays, write_arrays
from recbole_llmkt.utils.exceptions import DataError
from recbole_llmkt.utils.processes import gathered
from recbole_llmkt.utils.types import (
    Dataset,
    Features,
    FloatArray,
    IntArray,
    Matrix,
    Metrics,
    RunConfig,
)

FILE_NAME = "users.npz"
_METRIC = "metric "
Mask = npt.NDArray[np.bool_]
ByUser = tuple[IntArray, IntArray, dict[str, FloatArray]]


@dataclass(frozen=True)
class UserMetrics:
    """Test metrics of each user of a run.

    Attributes
    ----------
    tokens : ndarray of str, shape (n_users,)
        The users of the test part, by the dataset's own tokens.
    rows : ndarray of int64, shape (n_users,)
        Evaluated rows of each: 1 for a ranking (one per held-out interaction in sequential
        models), the number of labelled interactions otherwise.
    history : ndarray of int64, shape (n_users,)
        Training interactions of each.
    values : dict of str to ndarray of float64, shape (n_users,)
        By RecBole's name of the metric. Ranking metrics are means over a user's rows, so that
        their mean, weighted by ``rows``, is RecBole's figure. Labelled metrics (AUC, LogLoss, ...)
        are of a user's rows alone; NaN where they do not exist (AUC of one label).
    """

    tokens: npt.NDArray[np.str_]
    rows: IntArray
    history: IntArray
    values: Mapping[str, FloatArray]

    def save(self, path: Path) -> None:
        """Write an ``.npz`` file, whole or not at all; nothing in it is pickled."""
        own = {"tokens": self.tokens, "rows": self.rows, "history": self.history}
        metrics = {f"{_METRIC}{name}": value for name, value in self.values.items()}
        write_arrays(path, {**own, **metrics})

    @classmethod
    def load(cls, path: Path) -> UserMetrics:
        """Read what :meth:`save` wrote.

        Raises
        ------
        DataError
            The file cannot be read, or an array is missing or has another shape or type.
        """
        fix = "Delete the file and its run's line in results.jsonl; the run is then repeated."
        arrays = read_arrays(path, fix)
        try:
            tokens = check_array(arrays, "tokens", (None,), "U")
            shape = tokens.shape
            rows = check_array(arrays, "rows", shape, "iu").astype(np.int64)
            history = check_array(arrays, "history", shape, "iu").astype(np.int64)
            values = {
                name.removeprefix(_METRIC): check_array(arrays, name, shape, "f").astype(np.float64)
                for name in arrays
                if name.startswith(_METRIC)
            }
        except ValueError as error:
            raise DataError(f"{path}: not metrics by user ({error}). {fix}") from error
        return cls(tokens.astype(str), rows, history, values)


# ---- the rows of an evaluation ----------------------------------------------------------------


@dataclass(frozen=True)
class RankedRows:
    """Ranked lists of a test: a row for each user (for each interaction in sequential models).

    Attributes
    ----------
    users : ndarray of int64, shape (n_rows,)
        RecBole's user ids.
    values : dict of str to ndarray of float64, shape (n_rows,)
        Each top-k metric of each row, by RecBole's own code.
    """

    users: IntArray
    values: Mapping[str, FloatArray]

    def metrics(self, mask: Mask) -> dict[str, float]:
        """Return the mean over the rows of a mask, as RecBole's own is over all rows."""
        return {name: float(value[mask].mean()) for name, value in self.values.items()}

    def by_user(self) -> ByUser:
        """Return user ids, rows and metrics of each user."""
        ids, place, rows = np.unique(self.users, return_inverse=True, return_counts=True)
        values = {
            name: np.bincount(place, weights=value, minlength=len(ids)) / rows
            for name, value in self.values.items()
        }
        return ids, rows, values


@dataclass(frozen=True)
class LabelledRows:
    """Scored interactions with a label: a row for each.

    Attributes
    ----------
    users, items : ndarray of int64, shape (n_rows,)
        RecBole's ids.
    scores, labels : ndarray of float32, shape (n_rows,)
        Prediction and truth.
    functions : dict of str to LossMetric
        RecBole's metrics, by name.
    """

    users: IntArray
    items: IntArray
    scores: Matrix
    labels: Matrix
    functions: Mapping[str, LossMetric]

    def metrics(self, mask: Mask | IntArray) -> dict[str, float]:
        """Return RecBole's metrics of some rows, pooled over users; NaN if undefined."""
        scores, labels = self.scores[mask], self.labels[mask]
        if len(scores) == 1:  # RecBole's LogLoss fails on one row; none of them changes with two
            scores, labels = scores.repeat(2), labels.repeat(2)
        return {
            name: float(function.metric_info(scores, labels))
            if name != "auc" or np.min(labels) != np.max(labels)
            else float("nan")
            for name, function in self.functions.items()
        }

    def by_user(self) -> ByUser:
        """Return user ids, rows and metrics of each user."""
        ids, place, rows = np.unique(self.users, return_inverse=True, return_counts=True)
        values = {
            name: metric_by_group(function, place, self.scores, self.labels)
            for name, function in self.functions.items()
            if is_vectorised(function)
        }
        if len(values) < len(self.functions):  # a metric of somebody's own
            parts = np.split(np.argsort(place, kind="stable"), np.cumsum(rows)[:-1])
            metrics = [self.metrics(part) for part in parts]
            for name in {*self.functions} - {*values}:
                values[name] = np.array([metric[name] for metric in metrics])
        return ids, rows, {name: values[name] for name in self.functions}


# ---- recording --------------------------------------------------------------------------------


class EvaluatingTrainer(Protocol):
    """What is needed of RecBole's ``Trainer``."""

    config: RunConfig
    eval_collector: Collector
    evaluator: Evaluator


class Recording:
    """The rows of an evaluation: made by :func:`recorded`.

    Attributes
    ----------
    rows : RankedRows, LabelledRows or None
        None if the trainer does not evaluate batch by batch (XGBoost, LightGBM).
    tail_rows : RankedRows or None
        The same lists with only the marked items as relevant, without the rows that have no such
        positive; None unless ``relevant`` was given and lists were ranked.
    """

    def __init__(self, config: RunConfig, relevant: Mask | None) -> None:
        self.rows: RankedRows | LabelledRows | None = None
        self.tail_rows: RankedRows | None = None
        self._uid, self._iid = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]
        self._depth = max(config["topk"]) if config["topk"] else 0
        self._relevant = None if relevant is None else torch.from_numpy(relevant)
        self._users: list[torch.Tensor] = []
        self._items: list[torch.Tensor] = []
        self._tail: list[torch.Tensor] = []

    def add_batch(
        self,
        scores: torch.Tensor,
        interaction: Features,
        rows: torch.Tensor,
        items: torch.Tensor,
    ) -> None:
        """Record whose rows a batch holds; parameters as RecBole's ``eval_batch_collect``."""
        users = interaction[self._uid].cpu()
        labelled = scores.dim() < 2 or scores.shape[1] == 1  # some models (KD_DAGFM) keep a column
        if labelled:
            self._items.append(interaction[self._iid].cpu())
        elif len(users) != len(scores):  # sampled candidates: a user's come one after the other
            users = torch.unique_consecutive(users)
        self._users.append(users)
        if self._relevant is not None and not labelled:
            self._tail.append(_relevant_lists(scores, rows, items, self._relevant, self._depth))

    def finish(self, functions: Mapping[str, AbstractMetric], struct: DataStruct) -> None:
        """Turn what RecBole collected, and other processes recorded, into rows."""
        self._users, self._items, self._tail = (
            [batch for batches in gathered(own) for batch in batches]
            for own in (self._users, self._items, self._tail)
        )
        if not self._users:
            return
        users = torch.cat(self._users).numpy()
        ranked = [metric for metric in functions.values() if isinstance(metric, TopkMetric)]
        if "rec.topk" in struct:
            self.rows = RankedRows(users, topk_values(ranked, struct.get("rec.topk")))
            if self._tail:
                lists = torch.cat(self._tail)
                kept = lists[:, -1] > 0
                self.tail_rows = RankedRows(users[kept.numpy()], topk_values(ranked, lists[kept]))
        elif "rec.score" in struct:
            labelled = {
                name: metric for name, metric in functions.items() if isinstance(metric, LossMetric)
            }
            scores, labels = next(iter(labelled.values())).used_info(struct)
            items = torch.cat(self._items).numpy()
            self.rows = LabelledRows(users, items, scores, labels, labelled)


@contextmanager
def recorded(trainer: EvaluatingTrainer, relevant: Mask | None = None) -> Iterator[Recording]:
    """Record the evaluation that ``trainer`` makes while the context is open.

    Nothing is scored twice, nothing that RecBole computes changes, and no random number is drawn.

    Parameters
    ----------
    trainer : recbole.trainer.Trainer
        Its ``evaluate`` must be called once.
    relevant : ndarray of bool, shape (n_items,), optional
        Also rank with only these items as relevant (see :attr:`Recording.tail_rows`).
    """
    recording = Recording(trainer.config, relevant)
    collector, evaluator = trainer.eval_collector, trainer.evaluator
    collect, evaluate = collector.eval_batch_collect, evaluator.evaluate

    def recording_collect(
        scores: torch.Tensor, interaction: Features, rows: torch.Tensor, items: torch.Tensor
    ) -> None:
        collect(scores, interaction, rows, items)
        recording.add_batch(scores, interaction, rows, items)

    def recording_evaluate(struct: DataStruct) -> Metrics:
        recording.finish(evaluator.metric_class, struct)
        return evaluate(struct)  # type: ignore[no-any-return]

    collector.eval_batch_collect, evaluator.evaluate = recording_collect, recording_evaluate
    try:
        yield recording
    finally:
        del collector.eval_batch_collect, evaluator.evaluate


def topk_values(metrics: Sequence[TopkMetric], lists: torch.Tensor) -> dict[str, FloatArray]:
    """Return every top-k metric of every row, as RecBole computes it before it takes the mean.

    Parameters
    ----------
    metrics : sequence of TopkMetric
        RecBole's metrics.
    lists : Tensor of int, shape (n_rows, max(topk) + 1)
        RecBole's ``rec.topk``: whether each ranked item is relevant, and the number of relevant.
    """
    struct = DataStruct()
    struct.set("rec.topk", lists)
    values: dict[str, FloatArray] = {}
    for metric in metrics if len(lists) else ():
        recorder = copy.copy(metric)

        def keep(name: str, rows: FloatArray, topk: Sequence[int] = metric.topk) -> Metrics:
            values.update({f"{name}@{k}": rows[:, k - 1].astype(np.float64) for k in topk})
            return {}

        recorder.topk_result = keep
        recorder.calculate_metric(struct)
    return values


def _relevant_lists(
    scores: torch.Tensor, rows: torch.Tensor, items: torch.Tensor, relevant: torch.Tensor, k: int
) -> torch.Tensor:
    """Return RecBole's ``rec.topk`` of a batch with only ``relevant`` items as positives."""
    top = torch.topk(scores, k, dim=-1).indices
    kept = relevant[items.cpu()]
    positive = torch.zeros(scores.shape, dtype=torch.int, device=scores.device)
    positive[rows[kept].to(scores.device), items[kept].to(scores.device)] = 1
    hits = torch.gather(positive, 1, top)
    return torch.cat((hits, positive.sum(dim=1, keepdim=True)), dim=1).cpu()


def user_metrics(recording: Recording, train_dataset: Dataset) -> UserMetrics | None:
    """Turn a recording into metrics by user.

    Parameters
    ----------
    recording : Recording
        Of the test.
    train_dataset : recbole.data.dataset.Dataset
        The training split (``train_data._dataset``), for tokens and the length of histories.

    Returns
    -------
    UserMetrics or None
        None if the recording has no rows.
    """
    if recording.rows is None:
        return None
    ids, rows, values = recording.rows.by_user()
    field = train_dataset.uid_field
    tokens = train_dataset.field2id_token[field][ids].astype(str)
    history = interaction_counts(train_dataset)["user"][ids]
    return UserMetrics(tokens, rows.astype(np.int64), history, values)
