from __future__ import annotations

import re

import pytest

from recbole_llmkt.cli.overrides import parse_overrides
from recbole_llmkt.utils.exceptions import ConfigError


def test_values_are_plain_ones_and_the_last_one_counts():
    arguments = ["--epochs=3", "kt_layer=a=b", "--metrics=[Recall, MRR]", "--epochs=4", "--x="]
    assert parse_overrides(arguments) == {
        "epochs": 4,
        "kt_layer": "a=b",
        "metrics": ["Recall", "MRR"],
        "x": parse_overrides(["x="])["x"],
    }
    assert parse_overrides([]) == {}


@pytest.mark.parametrize(
    ("argument", "form"),
    [
        ("--epochs", "--epochs=value"),
        ("epochs", "--key=value"),
        *(
            (odd, "--key=value")
            for odd in ("--epochs 3", "=3", "--=3", "---x=3", "-e=3", "my key=3")
        ),
    ],
)
def test_what_is_no_key_with_a_value_is_refused(argument, form):
    with pytest.raises(ConfigError, match=f"^Cannot read '{argument}': write {form}.$"):
        parse_overrides(["--seed=1", argument])


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        (
            "--kt_entiti=both",
            "Unknown key 'kt_entiti' in the command line. Did you mean 'kt_entity'?",
        ),
        ("--kt_entity=booth", "'kt_entity: booth' in the command line: the value must be one of"),
    ],
)
def test_a_wrong_key_is_said_to_be_the_command_lines(argument, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        parse_overrides([argument])
