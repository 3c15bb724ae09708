"""``tuning.json``, and what a later command must agree with."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from recbole_llmkt.experiment.tuning.study_file import (
    FILE_NAME,
    ArmStudy,
    StudyFile,
    update_study_file,
)
from recbole_llmkt.utils.exceptions import DataError
from tests.experiment.fake_runs import PLAN, SHARED

SPACE = {"learning_rate": {"low": 0.001, "high": 0.1}}


def arm_study(run, **changes):
    values = {
        "model": run.model,
        "model_path": run.model,
        "arm": run.arm,
        "bigger": True,
        "metric": "NDCG@10",
        "space": SPACE,
        "space_digest": "feedbeef",
        "dimensions": SHARED,
        "data": run.data,
        "settings": run.settings,
        "finalists": 0,
        "final_seeds": 2,
    }
    return ArmStudy(**{**values, **changes})


@pytest.fixture(scope="module")
def study_file():
    studies = {f"{run.model}/{run.arm}": arm_study(run) for run in PLAN.runs()}
    return StudyFile("ml-100k", 7, [], PLAN.overrides, 4, {}, studies)


def test_the_file_is_read_as_it_was_written(study_file, tmp_path):
    with pytest.raises(DataError, match="No study in"):
        StudyFile.read(tmp_path)
    study_file.write(tmp_path)
    read = StudyFile.read(tmp_path)
    assert read.studies["BPR/kt"].space == SPACE
    assert read.studies["BPR/kt"].dimensions == SHARED
    assert (read.dataset, read.seed, read.points) == ("ml-100k", 7, 4)


@pytest.mark.parametrize("text", ["{", "[]", '{"dataset": "x"}', "[" * 100_000])
def test_a_damaged_file_names_the_fix(tmp_path, text):
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(DataError, match="Restore the file, or tune again in another --output"):
        StudyFile.read(tmp_path)


def test_arms_are_added_to_those_of_earlier_commands(study_file, tmp_path):
    base = {"BPR/base": study_file.studies["BPR/base"]}
    kt = {"BPR/kt": study_file.studies["BPR/kt"]}
    update_study_file(tmp_path, replace(study_file, studies=base))
    merged = update_study_file(tmp_path, replace(study_file, studies=kt))
    assert [*merged.studies] == ["BPR/base", "BPR/kt"]
    assert [*json.loads((tmp_path / FILE_NAME).read_text())["studies"]] == ["BPR/base", "BPR/kt"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 8}, r"started with another seed \(7 -> 8\)"),
        ({"dataset": "other"}, "started with another dataset"),
        ({"overrides": {"epochs": 3}}, r"another epochs of BPR/base \(2 -> 3\)"),
    ],
)
def test_a_later_command_must_agree_and_changes_nothing_else(
    study_file, tmp_path, changes, message
):
    update_study_file(tmp_path, study_file)
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(DataError, match=message):
        update_study_file(tmp_path, replace(study_file, **changes))
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_another_space_of_an_arm_is_refused(study_file, tmp_path):
    update_study_file(tmp_path, study_file)
    base = replace(study_file.studies["BPR/base"], space={"learning_rate": {"low": 0.01}})
    with pytest.raises(DataError, match="another search space of BPR/base"):
        update_study_file(tmp_path, replace(study_file, studies={"BPR/base": base}))
