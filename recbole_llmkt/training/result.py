"""What a run returns: the keys of a result, and their types."""

from __future__ import annotations

from typing import TypedDict

from recbole_llmkt.evaluation.per_user import UserMetrics
from recbole_llmkt.evaluation.slices import SliceMetrics
from recbole_llmkt.utils.types import Metrics, Settings


class Tested(TypedDict):
    """What a run measured on the test part; ``test_result`` is None if there is none."""

    test_result: Metrics | None
    slices: list[SliceMetrics]
    users: UserMetrics | None


class _Trained(TypedDict):
    """What a run returns even if it does not test (see :func:`recbole_llmkt.quick_start.train`)."""

    best_valid_score: float
    valid_score_bigger: bool
    best_valid_result: Metrics | None
    test_result: Metrics | None
    transfer: Settings | None
    checkpoint: str | None


class Result(_Trained, total=False):
    """The result of a run; a test adds the metrics of slices and users."""

    slices: list[SliceMetrics]
    users: UserMetrics | None


class ObjectiveResult(Result):
    """A result, and the model it is of."""

    model: str
