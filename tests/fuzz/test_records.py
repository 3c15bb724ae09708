"""Records of comparisons and studies: results, trials, metrics by user, Optuna's journal."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recbole_llmkt.evaluation.per_user import UserMetrics
from recbole_llmkt.experiment.journal import read_journal
from recbole_llmkt.experiment.report import exports, tables
from recbole_llmkt.experiment.report.findings import Findings
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.runs.results import ResultsWriter, read_results
from recbole_llmkt.experiment.tuning.study_file import FILE_NAME
from recbole_llmkt.experiment.tuning.trials import read_finals, read_trials
from recbole_llmkt.experiment.tuning.winners import TunedStudy, tuned_plan
from recbole_llmkt.recommend.refresh import steps_done
from recbole_llmkt.utils.exceptions import LLMKTError
from recbole_llmkt.utils.jsonl import read_object
from tests.fuzz.cases import as_json, changed, damaged, no_leftovers, survives

SLICE = {"part": "cold users", "bounds": "1-5", "users": 3, "metrics": {"ndcg@5": 0.1}}
TERM = {"entity": "user", "layer": "user_embedding", "rows": "table", "coverage": 1.0, "leaks": 0}
RESULT = {
    **{"model": "BPR", "arm": "kt", "seed": 1, "dataset": "tiny", "digest": "0" * 16},
    **{"status": "ok", "test": {"ndcg@5": 0.2}, "valid": {"ndcg@5": 0.3}, "epochs": 2},
    **{"seconds": 1.5, "time": "2024-01-01T00:00:00+00:00", "curve": [[0, 0.1], [1, 0.3]]},
    **{"settings": {"epochs": 2}, "arm_keys": {}, "data": "d", "versions": {"python": "3.11"}},
    "transfer": {"method": "loss", "terms": [TERM], "phase_switch": 1, "leaks": 0},
    "slices": [SLICE],
}
BASE = {**RESULT, "arm": "base", "transfer": None}
TRIAL = {
    **{"model": "BPR", "arm": "kt", "trial": 0, "seed": 1, "dataset": "tiny", "status": "ok"},
    **{
        "keys": {"kt_weight": 0.5},
        "epochs": 2,
        "seconds": 1.0,
        "score": 0.2,
        "valid": {"ndcg@5": 0.2},
    },
}


def lines(*values):
    return b"".join(as_json(value) + b"\n" for value in values)


RESULTS = st.one_of(
    damaged(lines(BASE, RESULT)), changed(RESULT).map(lambda line: lines(BASE, RESULT, line))
)


@given(RESULTS)
@example(lines({**RESULT, "curve": [[1e400, 1]]}))
@example(lines({**RESULT, "seconds": 10**400}))
@example(b"[" * 100_000 + b"\n")
def test_results(tmp_path, content):
    path = tmp_path / "results.jsonl"
    path.write_bytes(content)
    records = survives(read_results, path)
    survives(read_journal, tmp_path)
    if isinstance(records, LLMKTError):
        return
    with ResultsWriter(tmp_path) as writer:  # what is read can be written, and read again
        for record in records:
            writer.append(record)
    assert len(read_results(path)) == len(records)
    findings = survives(Findings.read, tmp_path)
    if not isinstance(findings, LLMKTError):
        for show in (tables.terminal_table, exports.summary_csv, exports.report_markdown):
            show(findings)
    no_leftovers(tmp_path)


ARM = {
    **{"model": "BPR", "model_path": "BPR", "arm": "kt", "bigger": True, "metric": "NDCG@5"},
    **{"space": {"kt_weight": {"low": 0.1, "high": 1.0}}, "space_digest": "0" * 16, "data": "d"},
    **{"dimensions": ["kt_weight"], "settings": {"epochs": 2}, "finalists": 0, "final_seeds": 0},
}
STUDY = {
    **{"dataset": "tiny", "seed": 1, "config_files": [], "overrides": {}, "points": 0},
    **{"own_arms": {}, "studies": {"BPR/kt": ARM}},
}


@given(
    damaged(lines(TRIAL, TRIAL)) | changed(TRIAL).map(lambda line: lines(TRIAL, line)),
    changed(STUDY).map(as_json) | damaged(as_json(STUDY)),
)
@example(lines({**TRIAL, "score": float("nan")}), as_json(STUDY))
@example(lines(TRIAL), as_json(STUDY))
def test_studies(tmp_path, trials, study):
    (tmp_path / "trials.jsonl").write_bytes(trials)
    (tmp_path / "finals.jsonl").write_bytes(trials)
    (tmp_path / FILE_NAME).write_bytes(study)
    for read in (read_trials, read_finals, TunedStudy.read):
        survives(read, tmp_path)
    wanted = Plan(models=[], arms=[], seeds=[1], dataset="", config_files=[], overrides={})
    survives(tuned_plan, tmp_path, wanted)


REFRESHED = {
    "request": {"checkpoint": "model.pth", "exports": [10, "csv", None]},
    "done": {"profiles": 3, "checkpoint": "new.pth", "files": ["served/recommendations.csv"]},
}


@given(changed(REFRESHED).map(as_json) | damaged(as_json(REFRESHED)))
@example(as_json({**REFRESHED, "done": {"checkpoint": 5}}))
@example(as_json({**REFRESHED, "done": {"files": 5}}))
@example(as_json({**REFRESHED, "done": {"files": ["x" * 5000]}}))
def test_a_refresh(tmp_path, content):
    path = tmp_path / "refresh.json"
    path.write_bytes(content)
    fields = survives(read_object, path, "Delete it.")
    if not isinstance(fields, LLMKTError):
        survives(lambda: steps_done(fields.part("done")))


def test_the_study_that_the_cases_start_from_is_read(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(as_json(STUDY))
    (tmp_path / "trials.jsonl").write_bytes(lines(TRIAL))
    assert TunedStudy.read(tmp_path).winner("BPR", "kt").keys == {"kt_weight": 0.5}


@pytest.fixture(scope="module")
def arrays():
    values = {"ndcg@5": np.array([0.1, 0.2])}
    tokens = np.array(["u1", "u2"])
    return UserMetrics(tokens, np.array([1, 2]), np.array([3, 4]), values)


@given(st.data())
def test_metrics_by_user(tmp_path, arrays, data):
    path = tmp_path / "users.npz"
    arrays.save(path)
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    survives(UserMetrics.load, path)
    stored = {"tokens": arrays.tokens, "rows": arrays.rows, "history": arrays.history}
    odd = st.sampled_from([np.zeros(0), np.zeros((2, 2)), np.array("x"), np.array([1j, 2])])
    stored[data.draw(st.sampled_from([*stored, "metric:x", "y"]))] = data.draw(odd)
    np.savez(path, **stored)
    survives(UserMetrics.load, path)


RUN = SimpleNamespace(model="BPR", arm="kt", seed=1, dataset="tiny")


def open_study(path):
    from recbole_llmkt.experiment.tuning.study import Study, journal_checked, open_journal

    study = Study(run=RUN, space={}, points=[], given={}, bigger=True)
    storage = open_journal(path)
    with journal_checked(path):
        study.open(storage)
    return study


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    """Return the bytes of a journal with two trials."""
    pytest.importorskip("optuna")
    path = tmp_path_factory.mktemp("journal") / "study.journal"
    study = open_study(path)._study
    for number in range(2):
        trial = study.ask()
        trial.suggest_float("kt_weight", 0, 1)
        attributes = {"index": number, "keys": {}, "seconds": 1.0, "epochs": 2, "valid": {"a": 0.1}}
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        study.tell(trial, 0.1 * number)
    return path.read_bytes()


@given(st.data())
def test_optunas_journal(tmp_path, journal, data):
    path = tmp_path / "study.journal"
    lines = journal.splitlines(keepends=True)
    number = data.draw(st.integers(0, len(lines) - 1))
    lines[number] = data.draw(changed(json.loads(lines[number])).map(as_json)) + b"\n"
    path.write_bytes(data.draw(damaged(journal) | st.just(b"".join(lines))))
    study = survives(open_study, path)
    if not isinstance(study, LLMKTError):
        survives(lambda: [record.to_json() for record in study.records()])
