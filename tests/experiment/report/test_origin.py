"""When, by which commands, and what the arms are."""

from __future__ import annotations

import pytest

from recbole_llmkt.experiment.report.findings import Findings
from recbole_llmkt.experiment.report.origin import arm_lines, commands, dates
from tests.experiment.fake_runs import as_record


def findings_of(*records):
    return Findings(records, records, (), (), (), (), ())


def run(arm="kt", settings=None, **changes):
    values = {"model": "BPR", "arm": arm, "seed": 1, "status": "ok", "settings": settings or {}}
    return as_record({**values, **changes})


def test_one_day_is_said_once_and_several_from_first_to_last():
    assert dates(findings_of(run())) == ""
    times = ("2026-03-02T23:00:00+00:00", "2026-03-01T01:00:00+00:00", "2026-03-04T01:00:00+00:00")
    assert dates(findings_of(run(time=times[0]), run(time=times[0]))) == "2026-03-02"
    assert dates(findings_of(*(run(time=time) for time in times))) == "2026-03-01 to 2026-03-04"


def test_each_command_is_listed_once():
    told = (run(command="llmkt a"), run(), run(command="llmkt b"), run(command="llmkt a"))
    assert commands(findings_of(*told)) == ["llmkt a", "llmkt b"]


@pytest.mark.parametrize(
    ("arm", "settings", "line"),
    [
        ("base", {"kt_enabled": False}, "the model alone, without profiles"),
        ("kt", {"kt_weight": 0.3}, "the model with the profiles"),
        ("shuffled", {"kt_control": "shuffled"}, "kt: everybody has somebody else's profile"),
        ("random", {"kt_control": "random"}, "control of kt: random vectors in place of"),
        ("low+zero", {"kt_control": "zero"}, "the control of low: zeros in place of the profiles"),
        ("low", {"kt_weight": 0.1, "kt_init": "targets"}, "kt with kt_weight=0.1, kt_init=targets"),
    ],
)
def test_an_arm_is_a_line(arm, settings, line):
    arm_keys = ["kt_enabled", "kt_control", *(settings if arm == "low" else ())]
    ((name, told),) = arm_lines(findings_of(run(arm, settings, arm_keys=arm_keys)))
    assert name == arm and line in told


def test_a_key_that_models_do_not_share_is_named_alone():
    told = (
        run("low", {"kt_weight": weight}, model=model, arm_keys=["kt_weight"])
        for model, weight in (("BPR", 0.1), ("NeuMF", 0.2))
    )
    assert arm_lines(findings_of(*told)) == [("low", "kt with kt_weight")]
