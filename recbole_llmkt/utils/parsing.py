"""Parsing user input: YAML files and command-line values, without ``eval``."""

from __future__ import annotations

import ast
import copy
import functools
import os
import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from recbole_llmkt.utils.exceptions import ConfigError

if TYPE_CHECKING:
    from recbole_llmkt.utils.types import Settings

_MOST_VALUES = 100_000
_DEEPEST = 50
_LONGEST = 10_000_000  # characters of a file: a device has no end


class _Loader(yaml.SafeLoader):  # type: ignore[misc,unused-ignore]
    """YAML's safe loader, reading ``1e-3`` as a number as RecBole's own loader does.

    A key that appears twice in a mapping is an error: YAML would silently keep the last value.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.composer.ComposerError(
                    None, None, f"the key '{key.value}' appears twice", key.start_mark
                )
            seen.add(key.value)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def parse_value(text: str) -> object:
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
        value: object = ast.literal_eval(stripped)
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


def _parse_collection(text: str) -> object:
    """Read a YAML list or dict; anything else is None (YAML takes 'on' and '12:30' for values)."""
    if not text.startswith(("[", "{")):
        return None
    try:
        return _read_yaml(text)
    except ConfigError:
        return None


def _read_yaml(text: str) -> object:
    """Read YAML text; see `_parsed`."""
    return copy.deepcopy(_parsed(text))


# Each run of a process reads RecBole's files and ours again, a fifth of a second of parsing.
@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> object:
    """Parse YAML text.

    Raises
    ------
    ConfigError
        One line: it is no YAML, it is nested too deeply, or it unfolds to too many values.
    """
    try:
        content: object = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{error.problem or error.context}{place}") from error
    except RecursionError as error:
        raise ConfigError("it is nested too deeply") from error
    except Exception as error:  # a tag like `!!int x` raises any error in PyYAML
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:100]
        raise ConfigError(f"a value cannot be read ({reason})") from error
    _check_size(content)
    return content


def _check_size(content: object) -> None:
    """Refuse what is nested deeply or holds itself, and aliases that unfold to millions."""
    level, n_values = [content], 0
    for _ in range(_DEEPEST):
        level = [
            child
            for value in level
            if isinstance(value, (dict, list, tuple))
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        n_values += len(level)
        if n_values > _MOST_VALUES:
            raise ConfigError(f"it holds more than {_MOST_VALUES:,} values")
        if not level:
            return
    raise ConfigError("it is nested too deeply")


def load_yaml(path: str | Path) -> Settings:
    """Read a YAML file of ``key: value`` lines.

    Raises
    ------
    ConfigError
        The file is missing, is no YAML, has a key twice, or holds something else than keys and
        values.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:  # a pipe is fine: <(command)
            text = file.read(_LONGEST + 1)
    except OSError as error:
        raise ConfigError(
            f"Cannot read the configuration file '{path}': {error.strerror or error} (seen from "
            f"{os.getcwd()}). Correct the path."
        ) from error
    except ValueError as error:
        raise ConfigError(f"Cannot read the configuration file '{path}': {error}.") from error
    if len(text) > _LONGEST:
        raise ConfigError(f"'{path}' is longer than {_LONGEST:,} characters: split it.")
    try:
        content = _read_yaml(text)
    except ConfigError as error:
        raise ConfigError(f"'{path}' is not valid YAML: {error}.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"'{path}' must hold 'key: value' lines, not a {type(content).__name__}.")
    for key, value in content.items():
        if not isinstance(key, str):
            raise ConfigError(f"'{path}': the key {key!r} must be a string; put it in quotes.")
        if not is_plain(value):
            raise ConfigError(
                f"'{path}': the value of '{key}' must be made of text, numbers, lists and "
                "mappings; put a date in quotes."
            )
    return content


def is_plain(value: object) -> bool:
    """Tell whether a value is made of None, bool, int, float, str, list, tuple and dict only."""
    if isinstance(value, Enum):
        return False
    if isinstance(value, dict):
        return all(is_plain(part) for pair in value.items() for part in pair)
    if isinstance(value, (list, tuple)):
        return all(is_plain(part) for part in value)
    return value is None or isinstance(value, (bool, int, float, str))
