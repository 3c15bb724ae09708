"""The trials of one arm in Optuna's journal."""

from __future__ import annotations

import pytest

from recbole_llmkt.experiment.tuning.space import Choices, Range
from recbole_llmkt.experiment.tuning.study import Study, journal_checked, open_journal
from recbole_llmkt.experiment.tuning.trials import Outcome
from recbole_llmkt.utils.exceptions import DataError
from tests.experiment.fake_runs import PLAN

SPACE = {"learning_rate": Range(1e-4, 1e-1, log=True), "sizes": Choices(([8], [16, 8]))}
POINTS = [{"learning_rate": 0.01, "sizes": [16, 8]}]
GIVEN = {"learning_rate": 0.001, "sizes": [8]}


@pytest.fixture
def begin(tmp_path):
    def begin():
        study = Study(PLAN.runs()[0], SPACE, POINTS, GIVEN, bigger=True)
        study.open(open_journal(tmp_path / "journal.log"))
        return study

    return begin


def test_the_configuration_as_given_is_first_and_the_points_follow(begin):
    study = begin()
    given, _ = study.ask(0)
    point, _ = study.ask(1)
    assert (given.changes, given.label) == ({}, "t000")
    assert (point.changes, point.label) == (POINTS[0], "t001")


def test_a_searched_trial_is_the_same_after_resuming(begin):
    study = begin()
    for index, score in enumerate([0.1, 0.3]):
        study.tell(study.ask(index)[1], Outcome(1.0, 2, score))
    searched, _ = study.ask(2)  # interrupted
    assert 1e-4 <= searched.changes["learning_rate"] <= 1e-1
    assert searched.changes["sizes"] in ([8], [16, 8])
    resumed = begin()
    assert sorted(resumed.finished()) == [0, 1]
    assert resumed.ask(2)[0].changes == searched.changes


def test_records_hold_what_was_told(begin):
    study = begin()
    outcome = Outcome(1.5, 2, 0.25, {"ndcg@10": 0.25}, {"user": "feed"})
    study.tell(study.ask(1)[1], outcome)
    study.tell(study.ask(0)[1], Outcome(0.5, 1, error="too fast"))
    failed, good = begin().records()
    assert (failed.trial, failed.outcome) == (0, Outcome(0.5, 1, error="too fast"))
    assert (good.trial, good.keys, good.outcome) == (1, POINTS[0], outcome)
    assert sorted(begin().finished(failed=False)) == [1]


def test_a_journal_that_a_crash_cut_short_opens(begin, tmp_path):
    study = begin()
    study.tell(study.ask(0)[1], Outcome(1.0, 2, 0.1))
    with (tmp_path / "journal.log").open("ab") as file:
        file.write(b'{"op_code": 5, "wor')
    (tmp_path / "journal.log.lock").symlink_to("nowhere")  # of the process that was killed
    assert sorted(begin().finished()) == [0]


def test_a_damaged_journal_is_one_line(tmp_path):
    path = tmp_path / "study.journal"
    path.write_text('{"op_code": 0}\n')
    message = r"study\.journal is damaged \(.*\)\. Restore it, or tune into another --output\.$"
    with pytest.raises(DataError, match=message):
        storage = open_journal(path)
        with journal_checked(path):
            storage.get_all_studies()
