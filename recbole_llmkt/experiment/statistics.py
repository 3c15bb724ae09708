"""Means, deviations and paired gains over the seeds of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from recbole_llmkt.experiment.results import Record

BASE = "base"


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
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


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
        Relative gain over the base arm in percent, of the seeds that both arms have: positive is
        better also where a smaller metric is better. None for the base arm, and without a base.
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
    """Return mean, standard deviation and 95% interval of a few values.

    Examples
    --------
    >>> estimate([1.0, 3.0])
    Estimate(n=2, mean=2.0, sd=1.4142135623730951, low=-10.706204736174698, high=14.706204736174694)
    """
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Estimate(n, mean, None, None, None)
    sd = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, n - 1)) * sd / n**0.5
    return Estimate(n, mean, sd, mean - half, mean + half)


def summarise(records: Sequence[Record], smaller: Sequence[str] = ()) -> list[Cell]:
    """Summarise the test metrics of the runs that ended well, in their order.

    Parameters
    ----------
    records : sequence of dict
        Records of a results file.
    smaller : sequence of str
        Names of metrics (``rmse``) of which a smaller value is better.
    """
    values: dict[tuple[str, str, str], dict[int, float]] = {}
    for record in records:
        for metric, value in record.get("test", {}).items():
            key = (record["model"], record["arm"], metric)
            values.setdefault(key, {})[record["seed"]] = value
    cells = []
    for (model, arm, metric), per_seed in values.items():
        base = values.get((model, BASE, metric), {}) if arm != BASE else {}
        less = metric.partition("@")[0] in smaller
        gains = [
            (-100.0 if less else 100.0) * (value / base[seed] - 1.0)
            for seed, value in per_seed.items()
            if base.get(seed)  # there is no gain over a base of 0
        ]
        gain = estimate(gains) if gains else None
        won = sum(one > 0.0 for one in gains)
        cells.append(Cell(model, arm, metric, estimate(list(per_seed.values())), gain, won, less))
    return cells
