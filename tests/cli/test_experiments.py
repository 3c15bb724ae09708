"""What ``llmkt compare`` and ``tune`` refuse before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from recbole_llmkt.cli.experiments import compare, tune
from recbole_llmkt.cli.main import main
from recbole_llmkt.experiment.runs import compare as comparison
from recbole_llmkt.utils.exceptions import ConfigError

DATA = ["--models=BPR", "--dataset=ml-100k", "--output=out"]


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ("1,x", "'1,x' is not a list of integers like 1,2,3."),
        ("1,-1", "a seed is from 0 to 2147483647."),
        ("2147483648", "a seed is from 0 to 2147483647."),
    ],
)
def test_seeds_that_recbole_cannot_use(seeds, message):
    result = CliRunner().invoke(compare, [*DATA, f"--seeds={seeds}"])
    assert result.exit_code == 2
    assert message in result.output
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arm", "kt_weight=0.3"], "Cannot read --arm 'kt_weight=0.3': write 'NAME: KEY=VALUE"),
        (["--arm", "mine:"], "Cannot read --arm 'mine:'"),
        (["--arm", ": kt_weight=0.3"], "Cannot read --arm"),
        (["--arm", "mine: kt_weight=0.3"], "The arm 'mine' is defined but not in --arms"),
        (["--arm", "mine: kt_layer='x"], "cannot read"),
        (["kt_weight"], "Cannot read 'kt_weight'"),
    ],
)
@pytest.mark.parametrize("command", [compare, tune], ids=["compare", "tune"])
def test_arms_and_keys_that_cannot_be_read(command, arguments, message):
    result = CliRunner().invoke(command, [*DATA, "--arms=base,kt", *arguments])
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
    assert not Path("out").exists()


@pytest.fixture
def planned(monkeypatch):
    """Return what `llmkt compare` plans; it then stops as if a person had pressed Ctrl-C."""
    plans = []

    def stop(plan, output, jobs, when_done, command):
        assert command.startswith("llmkt compare --models=")
        plans.append(plan)
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "compare", stop)

    def run(*arguments):
        result = CliRunner().invoke(main, ["compare", *DATA, *arguments])
        assert result.exit_code == 130 and "the same command resumes" in result.output
        return plans[-1]

    return run


def test_the_plan_is_what_the_command_line_says(planned):
    plan = planned("--arms=base,mine+shuffled", "--arm", "mine: kt_weight=0.3 epochs=2", "epochs=5")
    assert plan.arms == ["base", "mine+shuffled"]
    assert plan.own_arms == {"mine": {"kt_weight": 0.3, "epochs": 2}}
    assert plan.overrides == {"epochs": 5}
    assert plan.seeds == [1, 2, 3]


def test_the_control_is_among_the_default_arms(planned):
    assert planned("--seeds=7").arms == ["base", "kt", "shuffled"]
