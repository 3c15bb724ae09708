"""Reading what users write: YAML files and command-line values, without ``eval``."""

from __future__ import annotations

import ast
import re
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from recbole_llmkt.utils.exceptions import ConfigError


class _Loader(yaml.SafeLoader):  # type: ignore[misc,unused-ignore]
    """YAML's safe loader, reading ``1e-3`` as a number as RecBole's own loader does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def parse_value(text: str) -> Any:
    """Turn a command-line string into a value: a Python literal, a YAML list or dict, or itself.

    Nothing is ever executed.

    Examples
    --------
    >>> parse_value("0.3"), parse_value("1e-3"), parse_value("[BPR, NeuMF]")
    (0.3, 0.001, ['BPR', 'NeuMF'])
    >>> parse_value("__import__('os').getcwd()")
    "__import__('os').getcwd()"
    """
    stripped = text.strip()
    if stripped in _WORDS:
        return _WORDS[stripped]
    try:
        value = ast.literal_eval(stripped)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = _parse_collection(stripped)
    try:
        return value if is_plain(value) and value is not None else text
    except RecursionError:  # a YAML list that holds itself
        return text


# Not "none": that is a value of several keys.
_WORDS = {
    **dict.fromkeys(("True", "true", "TRUE"), True),
    **dict.fromkeys(("False", "false", "FALSE"), False),
    **dict.fromkeys(("None", "null", "~")),
}


def _parse_collection(text: str) -> Any:
    """Read a YAML list or dict; anything else is None (YAML takes 'on' and '12:30' for values)."""
    if not text.startswith(("[", "{")):
        return None
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of ``key: value`` lines.

    Raises
    ------
    ConfigError
        The file is missing, is no YAML, or holds something else than keys and values.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the configuration file '{path}': {error}.") from error
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"'{path}' is not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"'{path}' must hold 'key: value' lines, not a {type(content).__name__}.")
    return content


def is_plain(value: Any) -> bool:
    """Tell whether a value is made of None, bool, int, float, str, list, tuple and dict only."""
    if isinstance(value, Enum):
        return False
    if isinstance(value, dict):
        return all(is_plain(one) for pair in value.items() for one in pair)
    if isinstance(value, (list, tuple)):
        return all(is_plain(one) for one in value)
    return value is None or isinstance(value, (bool, int, float, str))
