"""The bar over all runs."""

from __future__ import annotations

import pytest

from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.runs.pool import Ended, Validated
from recbole_llmkt.experiment.runs.progress import Progress
from recbole_llmkt.experiment.runs.records import RunResult


def test_the_bar_moves_with_epochs_and_never_past_the_ended_runs(capsys):
    plan = Plan(["BPR"], ["base", "kt"], [1], "ml-100k", overrides={"epochs": 4})
    base, kt = plan.runs()
    with Progress(2) as progress:
        progress.show(Validated(base, 0, 0.1))
        assert progress._bar.n == pytest.approx(1 / 4)
        progress.show(Validated(kt, 2, 0.1))
        assert progress._bar.n == pytest.approx(1 / 4 + 3 / 4)
        assert progress._bar.postfix == "0/2 runs  BPR-base-1 1/4, BPR-kt-1 3/4"
        progress.show(Ended(base, 1.0, RunResult(0.1, {}, {})))  # stopped early: a whole run
        assert progress._bar.n == pytest.approx(1 + 3 / 4)
        progress.show(Ended(kt, 1.0, None, "no memory"))
        assert progress._bar.n == pytest.approx(2)
        assert progress._bar.postfix == "2/2 runs  "
    assert "BPR-kt-1 failed: no memory" in capsys.readouterr().err


def test_no_runs_need_no_bar(capsys):
    with Progress(0) as progress:
        assert progress._bar.disable
    assert capsys.readouterr().err == ""
