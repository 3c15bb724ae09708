"""Figures as text, and what the tables say."""

from __future__ import annotations

import math

import pytest

from recbole_llmkt.experiment.report.statistics import Estimate, summarise
from recbole_llmkt.experiment.report.tables import (
    doubts,
    gain_text,
    interval_text,
    metric_heads,
    own_settings,
    p_text,
    shared_settings,
    table_rows,
    value_text,
)
from tests.experiment.fake_runs import as_record, winner


def run(arm, seed, **changes):
    return as_record(
        {"model": "BPR", "arm": arm, "seed": seed, "status": "ok", "seconds": 2.0, **changes}
    )


@pytest.mark.parametrize(
    ("gain", "text"), [(2.06, "+2.1%"), (-0.04, "+0.0%"), (-3.0, "-3.0%"), (None, "")]
)
def test_gains_have_a_sign_and_no_negative_zero(gain, text):
    estimate = None if gain is None else Estimate(3, gain, None, None, None)
    assert gain_text(estimate) == text


def test_values_and_intervals():
    assert value_text(Estimate(3, 0.15344, 0.00124, None, None)) == "0.1534 ± 0.0012"
    assert value_text(Estimate(1, 0.15344, None, None, None)) == "0.1534"
    assert interval_text(Estimate(3, 2.0, 1.0, -0.26, 4.46)) == "-0.3% to +4.5%"
    assert interval_text(Estimate(1, 2.0, None, None, None)) == ""
    assert interval_text(None) == ""


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0324, "0.032"), (0.001, "0.001"), (0.00099, "< 0.001"), (1.0, "1.000"), (math.nan, "")],
)
def test_p_values(p, text):
    assert p_text(p) == text


def test_the_best_arm_is_the_lowest_where_less_is_better():
    records = [
        run("base", 1, test={"auc": 0.6, "logloss": 0.5}),
        run("kt", 1, test={"auc": 0.7, "logloss": 0.6}, seconds=4.0),
    ]
    cells = summarise(records, ["logloss"])
    assert metric_heads(cells) == ["AUC", "LOGLOSS ↓"]
    base, kt = table_rows(records, cells)
    assert (list(base.best), list(kt.best)) == ([False, True], [True, False])
    assert (base.seconds, kt.seconds) == (2.0, 4.0)


def test_unequal_and_partial_tuning_raise_doubts_and_equal_tuning_none():
    assert doubts([run("base", 1), run("kt", 1)]) == []
    tuned = {"tuned": vars(winner(trials=8))}
    assert doubts([run("base", 1, **tuned), run("kt", 1, **tuned)]) == []
    more = {"tuned": vars(winner(trials=9))}
    (unequal,) = doubts([run("base", 1, **tuned), run("kt", 1, **more)])
    assert "different numbers of trials" in unequal
    (partly,) = doubts([run("base", 1), run("kt", 1, **tuned)])
    assert "Some arms of BPR were tuned and others were not" in partly
    leak, failure = doubts(
        [run("kt", 1, transfer={"leaks": 1}), run("kt", 2, status="failed", error="no memory")]
    )
    assert leak.endswith("these figures are not evidence: BPR-kt-1.")
    assert failure == "BPR-kt-2 failed: no memory"


def test_settings_are_shared_or_an_arms_own():
    records = [
        run("base", 1, settings={"seed": 1, "epochs": 4, "kt_enabled": False}),
        run("kt", 2, settings={"seed": 2, "epochs": 4, "kt_enabled": True, "kt_init": None}),
    ]
    assert shared_settings(records) == [("epochs", "4"), ("kt_init", "~")]
    (row,) = own_settings(records)
    assert (row.model, row.key, row.texts) == (
        "BPR",
        "kt_enabled",
        {"base": "False", "kt": "True"},
    )
