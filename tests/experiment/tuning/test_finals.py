"""The final round: who takes part, and with which seeds."""

from __future__ import annotations

from recbole_llmkt.experiment.tuning.finals import Finals, best_trials, run_finals, runs_of
from recbole_llmkt.experiment.tuning.trials import Outcome, TrialRecord, read_finals
from tests.experiment.fake_runs import PLAN, fake_train, forbidden_train


def trial(number, score, arm="base", seed=7, rate=0.002):
    keys = {"learning_rate": rate, "weight_decay": 0.0}
    return TrialRecord("BPR", arm, number, seed, "ml-100k", keys, Outcome(1.0, 2, score))


TRIALS = [trial(0, 0.3, rate=0.001), trial(1, 0.5), trial(2, None), trial(3, 0.4, rate=0.004)]
TRIALS.append(trial(4, 0.9, arm="kt"))


def test_the_best_trials_come_first_and_failed_ones_never():
    assert [record.trial for record in best_trials(TRIALS, "BPR", "base", True)] == [1, 3, 0]
    assert [record.trial for record in best_trials(TRIALS, "BPR", "base", False)] == [0, 3, 1]


def test_runs_of_a_finalist_are_told_by_its_keys_too():
    finals = [trial(1, 0.4, seed=9), trial(1, 0.6, seed=8), trial(1, 0.1, seed=10, rate=0.1)]
    assert [run.seed for run in runs_of(finals, TRIALS[1], range(8, 11))] == [8, 9]


def test_finalists_run_with_the_seeds_that_follow_and_only_once(tmp_path):
    base = PLAN.runs()[0]
    run_finals(Finals(2, 2), [(base, True)], TRIALS, tmp_path, 1, fake_train)
    finals = read_finals(tmp_path)
    assert sorted((record.trial, record.seed) for record in finals) == [
        (1, 8),
        (1, 9),
        (3, 8),
        (3, 9),
    ]
    assert all(record.ok for record in finals)
    run_finals(Finals(2, 2), [(base, True)], TRIALS, tmp_path, 1, forbidden_train)
    assert read_finals(tmp_path) == finals


def test_without_finalists_nothing_runs(tmp_path):
    run_finals(Finals(0), [(PLAN.runs()[0], True)], TRIALS, tmp_path, 1, forbidden_train)
    assert read_finals(tmp_path) == []
