"""Means, deviations, intervals and paired gains over the seeds of a comparison."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from recbole_llmkt.experiment.runs.records import RunRecord

BASE = "base"
MIN_SEEDS = 3
_RESAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes
    ----------
    n : int
        Number of seeds.
    mean : float
        Their mean.
    sd : float or None
        Standard deviation (ddof=1); None for one seed.
    low, high : float or None
        95% confidence interval of the mean by Student's t; None for one seed.
    boot_low, boot_high : float or None
        95% percentile bootstrap interval (see :func:`bootstrap_interval`); None below 3 seeds.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None
    boot_low: float | None = None
    boot_high: float | None = None


@dataclass(frozen=True)
class Cell:
    """One metric of one arm of one model.

    Attributes
    ----------
    model, arm, metric : str
        Names.
    value : Estimate
        The metric.
    gain : Estimate or None
        Relative gain over the base arm in percent, over the seeds that both arms have; positive
        is better, even if a smaller metric is. None for the base arm, without a base arm, and if
        the base arm has 0 with any of these seeds.
    won : int
        Seeds in which the arm beat the base arm.
    smaller : bool
        Whether a smaller value is better (RMSE).
    """

    model: str
    arm: str
    metric: str
    value: Estimate
    gain: Estimate | None
    won: int
    smaller: bool = False


def estimate(values: Sequence[float]) -> Estimate:
    """Return mean, standard deviation and 95% intervals of a few values.

    Examples
    --------
    >>> mean = estimate([1.0, 3.0])
    >>> mean.mean, round(mean.low, 4), round(mean.high, 4), mean.boot_low
    (2.0, -10.7062, 14.7062, None)
    """
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Estimate(n, mean, None, None, None)
    sd = float(np.std(values, ddof=1))
    half = _student(n - 1) * sd / n**0.5
    boot = bootstrap_interval(values) if n >= MIN_SEEDS else (None, None)
    return Estimate(n, mean, sd, mean - half, mean + half, *boot)


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95% percentile bootstrap interval of the mean, the same for the same values.

    The values are resampled 10,000 times with replacement; the interval holds the middle 95% of
    the means. It is the percentile method, as few seeds do not support the corrections of other
    methods. It is too narrow for few seeds (of normal values it covers about 75% with 3 and 85%
    with 5), so verdicts rest on Student's interval.
    """
    return _bootstrapped(tuple(values))


# The same figures stand in several tables of a page.
@functools.lru_cache(maxsize=4096)
def _bootstrapped(values: tuple[float, ...]) -> tuple[float, float]:
    sample = np.asarray(values, dtype=np.float64)
    low, high = np.quantile(sample[_drawn(len(sample))].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


# A page of tables needs ten thousand intervals of a few lengths.
@functools.lru_cache(maxsize=32)
def _drawn(n: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(0).integers(n, size=(_RESAMPLES, n))


@functools.lru_cache(maxsize=32)
def _student(freedom: int) -> float:
    return float(stats.t.ppf(0.975, freedom))


def summarise(records: Sequence[RunRecord], smaller: Sequence[str] = ()) -> list[Cell]:
    """Summarise the test metrics of runs that succeeded, in their order.

    Parameters
    ----------
    records : sequence of RunRecord
        The runs.
    smaller : sequence of str
        Names of metrics (``rmse``) of which a smaller value is better.
    """
    values: dict[tuple[str, str, str], dict[int, float]] = {}
    for record in records:
        for metric, value in record.test.items():
            key = (record.model, record.arm, metric)
            values.setdefault(key, {})[record.seed] = value
    cells = []
    for (model, arm, metric), per_seed in values.items():
        base = values.get((model, BASE, metric), {}) if arm != BASE else {}
        less = metric.partition("@")[0] in smaller
        pairs = [(value, base[seed]) for seed, value in per_seed.items() if seed in base]
        sign = -1.0 if less else 1.0
        won = sum(sign * (value - known) > 0.0 for value, known in pairs)
        gain = None
        if pairs and all(known for _, known in pairs):
            gain = estimate([sign * 100.0 * (value / known - 1.0) for value, known in pairs])
        cells.append(Cell(model, arm, metric, estimate(list(per_seed.values())), gain, won, less))
    return cells
