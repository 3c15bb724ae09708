from __future__ import annotations

import pytest

from recbole_llmkt.experiment.runs.arms import ARMS, arm_of, arm_settings, control_of, in_order
from recbole_llmkt.utils.exceptions import ConfigError


def test_an_own_arm_is_kt_with_its_keys_over_it():
    own = {"mine": {"kt_weight": 0.3, "kt_control": "random"}}
    assert arm_settings("mine", own) == {
        "kt_enabled": True,
        "kt_control": "random",
        "kt_weight": 0.3,
    }
    assert arm_settings("mine+shuffled", own)["kt_control"] == "shuffled"


def test_the_settings_of_a_ready_arm_are_a_copy():
    arm_settings("kt", {})["kt_enabled"] = False
    assert ARMS["kt"] == {"kt_enabled": True, "kt_control": "none"}


@pytest.mark.parametrize(
    ("name", "own", "message"),
    [
        ("kt+shuffled", {}, "the controls of the arm kt are called shuffled and random"),
        ("mien", {"mine": {}}, "Unknown arm 'mien'.*mine"),
        ("mine+wrong", {"mine": {}}, "kt_control"),
        ("base", {"kt": {}}, "An arm cannot be called 'kt'"),
        ("base", {"a/b": {}}, "An arm cannot be called 'a/b'"),
        ("base", {"..": {}}, "An arm cannot be called '..'"),
        ("base", {"a+b": {}}, r"An arm cannot be called 'a\+b'"),
    ],
)
def test_arms_that_cannot_be(name, own, message):
    with pytest.raises(ConfigError, match=message):
        arm_settings(name, own)


@pytest.mark.parametrize("arm", ["kt", "init", "a.b"])
@pytest.mark.parametrize("control", ["shuffled", "random"])
def test_a_control_belongs_to_its_arm(arm, control):
    assert arm_of(control_of(arm, control)) == arm


def test_the_order_is_base_first_and_controls_behind_their_arms():
    arms = ["b+random", "random", "a", "b", "kt", "a+shuffled", "base", "a"]
    assert in_order(arms) == ["base", "kt", "random", "b", "b+random", "a", "a+shuffled"]
