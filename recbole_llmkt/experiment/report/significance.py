"""Is a gain real? Paired tests by user, corrected over models, and the spread over seeds.

Tests by user ask whether the difference between two arms would hold for other users. They take the
trained models as given, so they say nothing about other training seeds; the interval over seeds
does. Only a gain that passes both is called a win, and only against both rivals: the base arm, and
the control that learned from other users' profiles.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from recbole_llmkt.evaluation.per_user import FILE_NAME, UserMetrics
from recbole_llmkt.experiment.report.statistics import BASE, MIN_SEEDS, Estimate, estimate
from recbole_llmkt.experiment.runs.arms import control_of
from recbole_llmkt.experiment.runs.records import RunRecord, of_arm

LEVEL = 0.05
Users = dict[tuple[str, str, int], UserMetrics]  # by model, arm and seed


@dataclass(frozen=True)
class Pair:
    """One arm against a rival, by the primary metric. Positive differences favour the arm.

    Attributes
    ----------
    model, arm, rival, metric : str
        Names.
    users : int
        Users that both arms measured; 0 without metrics by user.
    difference : float
        Mean over users of each user's mean difference over seeds; NaN without users.
    wilcoxon, ttest : float
        Two-sided p-values over users, each user once: Wilcoxon's signed-rank test and the paired
        t-test; NaN without users.
    holm : float
        The larger of both, after Holm's correction over all pairs with the same kind of rival.
    seeds : Estimate or None
        The difference of RecBole's own figure, paired by seed; None without common seeds.
    """

    model: str
    arm: str
    rival: str
    metric: str
    users: int
    difference: float
    wilcoxon: float
    ttest: float
    holm: float
    seeds: Estimate | None

    @property
    def p(self) -> float:
        """Return the larger of the two p-values."""
        return max(self.wilcoxon, self.ttest)

    @property
    def enough_seeds(self) -> bool:
        """Return whether there are enough seeds to know their spread."""
        return self.seeds is not None and self.seeds.n >= MIN_SEEDS

    @property
    def proven(self) -> int:
        """Return 1 if the arm is proven better, -1 if proven worse, 0 otherwise.

        A difference is proven if both tests find it significant after Holm's correction, and if
        the 95% interval over at least three seeds is on the same side of zero.
        """
        if not self.users or not self.enough_seeds or not self.holm < LEVEL:
            return 0
        assert self.seeds is not None and self.seeds.low is not None and self.seeds.high is not None
        if self.difference > 0.0 < self.seeds.low:
            return 1
        return -1 if self.difference < 0.0 > self.seeds.high else 0


@dataclass(frozen=True)
class Verdict:
    """The verdict on an arm that learned from real profiles.

    Attributes
    ----------
    model, arm, metric : str
        Names.
    outcome : str
        ``"win"`` (proven better than base and than its control), ``"worse"`` (proven worse than
        base), ``"no win"``, or ``"untested"``.
    reason : str
        Why, in a sentence.
    pairs : sequence of Pair
        The pairs behind it.
    """

    model: str
    arm: str
    metric: str
    outcome: str
    reason: str
    pairs: Sequence[Pair]


# ---- what is compared -------------------------------------------------------------------------


def load_users(
    folder: Path, records: Sequence[RunRecord]
) -> dict[tuple[str, str, int], UserMetrics]:
    """Read the metrics by user of the runs that succeeded and have such a file."""
    users: Users = {}
    for record in records:
        path = folder / "runs" / record.name / FILE_NAME
        if record.ok and path.is_file():
            users[record.model, record.arm, record.seed] = UserMetrics.load(path)
    return users


def primary_metric(records: Sequence[RunRecord], model: str) -> str | None:
    """Return the metric that verdicts on a model are about.

    It is the one that chose the checkpoints (``valid_metric``), or the first of the test's.
    """
    for record in records:
        if record.model == model and record.test:
            chosen = str(record.settings.get("valid_metric")).lower()
            return chosen if chosen in record.test else next(iter(record.test))
    return None


def is_control(record: RunRecord) -> bool:
    """Return whether a run is a control."""
    return bool(record.settings.get("kt_control", "none") != "none")


def compare_arms(
    records: Sequence[RunRecord], users: Users, smaller: Sequence[str] = ()
) -> list[Pair]:
    """Compare each arm with real knowledge with the base arm and with its control, if present.

    Parameters
    ----------
    records : sequence of RunRecord
        The runs that succeeded.
    users : mapping
        Their metrics by user (:func:`load_users`).
    smaller : sequence of str
        Names of metrics (``logloss``) of which a smaller value is better.

    Returns
    -------
    list of Pair
        With p-values corrected by Holm's method over all models and arms: one family for the
        pairs with base, one for those with controls.
    """
    pairs = []
    for model, arm in _knowledge_arms(records):
        metric = primary_metric(records, model)
        for rival in (BASE, control_of(arm)):
            if metric is not None and of_arm(records, model, rival):
                pairs.append(_pair(records, users, (model, arm, rival, metric), smaller))
    return corrected(pairs)


def corrected(pairs: Sequence[Pair]) -> list[Pair]:
    """Correct the p-values of pairs by Holm's method, those with base apart from the others."""
    tested = [pair for pair in pairs if pair.p == pair.p]  # not NaN
    p_values: dict[int, float] = {}
    for with_base in (True, False):
        family = [pair for pair in tested if (pair.rival == BASE) == with_base]
        p_values.update(zip(map(id, family), holm([pair.p for pair in family])))
    return [
        replace(pair, holm=p_values[id(pair)]) if id(pair) in p_values else pair for pair in pairs
    ]


def verdicts(records: Sequence[RunRecord], pairs: Sequence[Pair]) -> list[Verdict]:
    """Return the verdict on each arm with real knowledge, by its pairs."""
    judged = []
    for model, arm in _knowledge_arms(records):
        own = {pair.rival: pair for pair in pairs if (pair.model, pair.arm) == (model, arm)}
        base, control = own.get(BASE), own.get(control_of(arm))
        outcome, reason = _judge(arm, base, control)
        metric = primary_metric(records, model) or ""
        judged.append(Verdict(model, arm, metric, outcome, reason, list(own.values())))
    return judged


def _knowledge_arms(records: Sequence[RunRecord]) -> list[tuple[str, str]]:
    with_knowledge = [
        (record.model, record.arm)
        for record in records
        if record.arm != BASE and not is_control(record)
    ]
    return list(dict.fromkeys(with_knowledge))


def _judge(arm: str, base: Pair | None, control: Pair | None) -> tuple[str, str]:
    if base is None:
        return "untested", "there are no runs of the arm base"
    for pair in (base, control):
        if pair is not None and not pair.users:
            return "untested", f"{arm} and {pair.rival} have no metrics by user in common"
        if pair is not None and not pair.enough_seeds:
            count = pair.seeds.n if pair.seeds is not None else 0
            return "untested", f"not enough seeds ({count} of at least {MIN_SEEDS})"
    if base.proven < 0:
        return "worse", f"worse than base ({evidence(base)})"
    if not base.proven:
        return "no win", f"not proven better than base ({evidence(base)})"
    if control is None:
        reason = f"better than base; only {control_of(arm)} can tell whether it is knowledge"
        return "untested", reason
    if control.proven < 1:
        why = f"but not proven better than {control.rival} ({evidence(control)})"
        return "no win", f"better than base ({evidence(base)}), {why}"
    beaten = f"base ({evidence(base)}) and {control.rival} ({evidence(control)})"
    return "win", f"better than {beaten}"


def evidence(pair: Pair) -> str:
    """Return the evidence of a pair as text: p after Holm, users, and the interval."""
    text = f"p = {pair.holm:.2g} over {pair.users} users"
    seeds = pair.seeds
    if seeds is None or seeds.low is None or seeds.high is None:
        return text
    if math.isclose(seeds.low, seeds.high, rel_tol=1e-9):  # a model without randomness
        return f"{text}; {seeds.low:+.4f} with each of {seeds.n} seeds"
    return f"{text}; 95% interval over {seeds.n} seeds {seeds.low:+.4f} to {seeds.high:+.4f}"


# ---- the tests --------------------------------------------------------------------------------


def _pair(
    records: Sequence[RunRecord],
    users: Users,
    names: tuple[str, str, str, str],
    smaller: Sequence[str],
) -> Pair:
    model, arm, rival, metric = names
    by_seed = [
        (users[model, arm, seed], users[model, rival, seed])
        for seed in sorted({record.seed for record in records})
        if (model, arm, seed) in users and (model, rival, seed) in users
    ]
    differences = _sign(metric, smaller) * user_differences(by_seed, metric)
    wilcoxon, ttest = paired_tests(differences)
    return Pair(
        *names,
        users=len(differences),
        difference=float(np.mean(differences)) if len(differences) else float("nan"),
        wilcoxon=wilcoxon,
        ttest=ttest,
        holm=float("nan"),
        seeds=seed_differences(records, names, smaller),
    )


def seed_differences(
    records: Sequence[RunRecord], names: tuple[str, str, str, str], smaller: Sequence[str] = ()
) -> Estimate | None:
    """Return the difference of RecBole's own figure, paired by seed.

    Parameters
    ----------
    records : sequence of RunRecord
        The runs that succeeded.
    names : tuple of str
        Model, arm, rival, metric.
    smaller : sequence of str
        Names of metrics of which a smaller value is better.

    Returns
    -------
    Estimate or None
        None without common seeds; positive differences favour the arm.
    """
    model, arm, rival, metric = names
    figures: dict[str, dict[int, float]] = {arm: {}, rival: {}}
    for record in records:
        if record.model == model and record.arm in figures and metric in record.test:
            figures[record.arm][record.seed] = record.test[metric]
    common = sorted(figures[arm].keys() & figures[rival].keys())
    sign = _sign(metric, smaller)
    over_seeds = [sign * (figures[arm][seed] - figures[rival][seed]) for seed in common]
    return estimate(over_seeds) if over_seeds else None


def _sign(metric: str, smaller: Sequence[str]) -> float:
    return -1.0 if metric.partition("@")[0] in smaller else 1.0


def user_differences(
    by_seed: Sequence[tuple[UserMetrics, UserMetrics]], metric: str
) -> npt.NDArray[np.float64]:
    """Return each user's difference between two arms, averaged over seeds.

    Parameters
    ----------
    by_seed : sequence of (UserMetrics, UserMetrics)
        Both arms, for each seed.
    metric : str
        RecBole's name of it.

    Returns
    -------
    ndarray of float64, shape (n_users,)
        First arm minus second, an entry for each user that both measured in some seed. Users
        whose metric does not exist (NaN) are left out.
    """
    tokens, differences = [], []
    for first, second in by_seed:
        if metric not in first.values or metric not in second.values:
            continue
        shared, in_first, in_second = np.intersect1d(
            first.tokens, second.tokens, return_indices=True
        )
        difference = first.values[metric][in_first] - second.values[metric][in_second]
        known = ~np.isnan(difference)
        tokens.append(shared[known])
        differences.append(difference[known])
    if not tokens:
        return np.empty(0)
    _, place, seeds = np.unique(np.concatenate(tokens), return_inverse=True, return_counts=True)
    sums = np.bincount(place, weights=np.concatenate(differences))
    return np.asarray(sums / seeds, dtype=np.float64)


def paired_tests(differences: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the p-values of Wilcoxon's signed-rank test and of the paired t-test, two-sided.

    Both are 1 where no difference is other than zero, and NaN below two users.
    """
    if len(differences) < 2:
        return float("nan"), float("nan")
    if not differences.any():
        return 1.0, 1.0
    with warnings.catch_warnings():
        # About ties, few users, or equal differences: the other test is made as well.
        warnings.simplefilter("ignore")
        wilcoxon = stats.wilcoxon(differences).pvalue
        ttest = stats.ttest_1samp(differences, 0.0).pvalue
    return float(wilcoxon), float(ttest)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected by Holm's step-down method, in their order.

    References
    ----------
    S. Holm: A simple sequentially rejective multiple test procedure. Scandinavian Journal of
    Statistics 6 (1979).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected
