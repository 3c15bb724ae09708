"""Keys from the command line."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_llmkt.keys.table import check_keys
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.parsing import parse_value
from recbole_llmkt.utils.types import Settings


def parse_overrides(arguments: Sequence[str]) -> Settings:
    """Read ``--key=value`` (or ``key=value``) arguments.

    Raises
    ------
    ConfigError
        An argument has another form, a ``kt_`` or ``profile_`` key is unknown, or its value is
        out of range.
    """
    values = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        key = key[2:] if key.startswith("--") else key
        if not equals or not key.isidentifier():
            given = key if argument == f"--{key}" and key.isidentifier() else "key"
            raise ConfigError(f"Cannot read '{argument}': write --{given}=value.")
        values[key] = parse_value(value)
    check_keys(values, "the command line")
    return values
