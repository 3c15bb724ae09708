from __future__ import annotations

import numpy as np
import pytest

from recbole_llmkt.experiment.report.statistics import (
    Cell,
    Estimate,
    bootstrap_interval,
    estimate,
    summarise,
)
from tests.experiment.fake_runs import as_record


def records(values):
    """Make records of {arm: {seed: {metric: value}}}."""
    return [
        as_record({"model": "BPR", "arm": arm, "seed": seed, "status": "ok", "test": metrics})
        for arm, seeds in values.items()
        for seed, metrics in seeds.items()
    ]


def test_an_estimate_by_hand():
    estimated = estimate([1.0, 2.0, 3.0])
    assert (estimated.n, estimated.mean, estimated.sd) == (3, 2.0, 1.0)
    half = 4.302653 / 3**0.5  # Student's t, 2 degrees of freedom
    assert estimated.low == pytest.approx(2.0 - half, rel=1e-6)
    assert estimated.high == pytest.approx(2.0 + half, rel=1e-6)


def test_one_seed_has_no_deviation():
    assert estimate([0.5]) == Estimate(1, 0.5, None, None, None, None, None)


def test_two_seeds_have_an_interval_by_student_alone():
    estimated = estimate([1.0, 3.0])
    assert estimated.sd == pytest.approx(2**0.5)
    assert estimated.high - 2.0 == pytest.approx(12.706205, rel=1e-6)  # t, 1 degree of freedom
    assert (estimated.boot_low, estimated.boot_high) == (None, None)


def test_the_bootstrap_of_few_values_by_hand():
    """Of the 27 equally likely samples of three values, one is all 0 and one all 3."""
    low, high = bootstrap_interval([0.0, 0.0, 3.0])
    assert (low, high) == (0.0, 3.0)  # the sample of threes has more than 2.5%: 1/27
    assert bootstrap_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)
    assert bootstrap_interval([1.0, 2.0, 4.0]) == bootstrap_interval([1.0, 2.0, 4.0])
    estimated = estimate([1.0, 2.0, 4.0])
    assert (
        estimated.low < estimated.boot_low < estimated.mean < estimated.boot_high < estimated.high
    )


def test_the_bootstrap_approaches_students_interval():
    values = np.random.default_rng(5).normal(10.0, 2.0, 400).tolist()
    estimated = estimate(values)
    assert estimated.boot_low == pytest.approx(estimated.low, abs=0.02)
    assert estimated.boot_high == pytest.approx(estimated.high, abs=0.02)


def test_gains_are_paired_by_seed():
    cells = summarise(
        records(
            {
                "base": {1: {"ndcg@10": 0.10}, 2: {"ndcg@10": 0.20}, 3: {"ndcg@10": 0.9}},
                "kt": {1: {"ndcg@10": 0.11}, 2: {"ndcg@10": 0.19}},
            }
        )
    )
    base, kt = cells
    assert base.gain is None
    assert kt.gain.n == 2  # seed 3 has no kt run
    assert kt.gain.mean == pytest.approx((10.0 - 5.0) / 2)
    assert kt.won == 1


def test_less_is_better_for_errors():
    values = {"base": {1: {"rmse": 1.0}}, "kt": {1: {"rmse": 0.9}}}
    _, kt = summarise(records(values), smaller=["rmse"])
    assert kt.gain.mean == pytest.approx(10.0)
    assert kt.won == 1 and kt.smaller is True
    (mrr,) = summarise(records({"base": {1: {"mrr@10": 1.0}}}), smaller=["mrr"])
    assert mrr.smaller  # its name is what stands before the @


def test_a_cell_says_whose_figure_it_is():
    (cell,) = summarise(records({"base": {1: {"hit@10": 0.5}}}))
    assert cell == Cell("BPR", "base", "hit@10", estimate([0.5]), None, 0, False)


def test_a_draw_is_not_won():
    same = {1: {"hit@10": 0.5}}
    _, kt = summarise(records({"base": same, "kt": same}))
    assert kt.won == 0


def test_there_is_no_gain_over_nothing():
    _, kt = summarise(records({"base": {1: {"hit@10": 0.0}}, "kt": {1: {"hit@10": 0.1}}}))
    assert kt.gain is None
    (alone,) = summarise(records({"kt": {1: {"hit@10": 0.1}}}))
    assert alone.gain is None


def test_a_base_of_0_with_one_seed_gives_no_gain_of_the_others():
    base = {1: {"hit@10": 0.0}, 2: {"hit@10": 0.1}, 3: {"hit@10": 0.1}}
    kt = {1: {"hit@10": 0.1}, 2: {"hit@10": 0.09}, 3: {"hit@10": 0.09}}
    _, arm = summarise(records({"base": base, "kt": kt}))
    assert arm.gain is None  # of the other two it would be -10%, and kt is better on average
    assert arm.won == 1
