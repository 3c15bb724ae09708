from __future__ import annotations

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
    "argument",
    ["--epochs", "epochs", "--epochs 3", "=3", "--=3", "---epochs=3", "-e=3", "my key=3"],
)
def test_what_is_no_key_with_a_value_is_refused(argument):
    with pytest.raises(ConfigError, match=f"Cannot read '{argument}': write --key=value"):
        parse_overrides(["--seed=1", argument])
