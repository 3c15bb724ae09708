"""Keys from the command line."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.parsing import parse_value
from recbole_llmkt.utils.types import Settings


def parse_overrides(arguments: Sequence[str]) -> Settings:
    """Read ``--key=value`` (or ``key=value``) arguments.

    Raises
    ------
    ConfigError
        An argument has another form.
    """
    values = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        key = key[2:] if key.startswith("--") else key
        if not equals or not key.isidentifier():
            raise ConfigError(f"Cannot read '{argument}': write --key=value.")
        values[key] = parse_value(value)
    return values
