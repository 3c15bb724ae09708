"""Files of JSON lines: one reader, one writer, and typed access to the fields of an object."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, TypeVar

from recbole_llmkt.utils.exceptions import DataError
from recbole_llmkt.utils.files import append_whole, check_regular, storing, whole_lines
from recbole_llmkt.utils.text import json_line

logger = logging.getLogger(__name__)

T = TypeVar("T")
_KINDS: Mapping[type, str] = {
    str: "text",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    dict: "an object",
    list: "a list",
}
# Larger integers fit neither numpy's nor any file format's 64 bits.
_LARGEST_INTEGER = 2**63 - 1


def complete_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the content of every complete line of a file.

    A last line that a crash cut off is left out, with a warning.
    """
    check_regular(path)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            whole, rest = (line, b"") if line.endswith(b"\n") else whole_lines(line)
            if rest.strip():
                logger.warning(
                    "The last line of %s was cut off while it was written; it is left out.", path
                )
            if whole:
                yield number, whole[:-1]


class Fields:
    """The fields of a JSON object, read by name and type.

    Parameters
    ----------
    values : object
        What JSON gave.
    place : str
        Where it stands, for messages: ``"results.jsonl, line 3"``; also an attribute.
    fix : str
        What to do about a wrong field: a sentence.

    Raises
    ------
    DataError
        ``values`` is no object; later, from each method: a field is missing or of another type.
    """

    def __init__(self, values: object, place: str, fix: str) -> None:
        self.place, self._fix = place, fix
        if not isinstance(values, dict):
            raise self.error(f"holds {_shown(values)}, not a JSON object")
        self._values: dict[str, object] = values

    def error(self, problem: str) -> DataError:
        """Return the error that names the place, the problem and the fix."""
        return DataError(f"{self.place}: {problem}. {self._fix}")

    def names(self) -> list[str]:
        """Return the names of all fields."""
        return list(self._values)

    def value(self, name: str) -> object:
        """Return a field of any type, or None if it is missing."""
        return self._values.get(name)

    def required(self, name: str, kind: type[T]) -> T:
        """Return a field of a type (``float`` takes integers too)."""
        if name not in self._values:
            raise self.error(f"the field '{name}' is missing")
        return self._checked(name, self._values[name], kind)

    def optional(self, name: str, kind: type[T]) -> T | None:
        """Return a field of a type, or None if it is missing or null."""
        value = self._values.get(name)
        return None if value is None else self._checked(name, value, kind)

    def with_default(self, name: str, default: T) -> T:
        """Return a field of the default's type; what is missing, null or empty is the default."""
        return self.optional(name, type(default)) or default

    def choice(self, name: str, choices: Iterable[str]) -> str:
        """Return a field that has one of a few values."""
        value = self.required(name, str)
        if value not in choices:
            raise self.error(f"'{name}' must be {' or '.join(choices)}, not {_shown(value)}")
        return value

    def mapping(self, name: str, kind: type[T]) -> dict[str, T]:
        """Return an object whose values all have one type; a missing one is empty."""
        values = self.optional(name, dict) or {}
        return {key: self._checked(f"{name}.{key}", value, kind) for key, value in values.items()}

    def items(self, name: str, kind: type[T]) -> list[T]:
        """Return a list whose items all have one type; a missing one is empty."""
        values = self.optional(name, list) or []
        return [self._checked(f"{name}[{i}]", value, kind) for i, value in enumerate(values)]

    def optional_items(self, name: str, kind: type[T]) -> list[T] | None:
        """Return a list whose items all have one type, or None if it is missing or null."""
        return None if self._values.get(name) is None else self.items(name, kind)

    def part(self, name: str) -> Fields:
        """Return the fields of an object within this one."""
        return Fields(self.required(name, dict), f"{self.place}, '{name}'", self._fix)

    def parts(self, name: str) -> list[Fields]:
        """Return the fields of every object in a list; a missing list is empty."""
        values = self.items(name, dict)
        return [
            Fields(value, f"{self.place}, '{name}[{i}]'", self._fix)
            for i, value in enumerate(values)
        ]

    def _checked(self, name: str, value: object, kind: type[T]) -> T:
        if not _matches(value, kind):
            raise self.error(f"'{name}' must be {_KINDS[kind]}, not {_shown(value)}")
        return value  # type: ignore[return-value]


def _matches(value: object, kind: type) -> bool:
    if kind is not bool and isinstance(value, bool):
        return False
    if kind in (int, float) and isinstance(value, int):
        return abs(value) <= _LARGEST_INTEGER
    return isinstance(value, kind)


def _shown(value: object) -> str:
    text = json_line(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def read_objects(path: Path, fix: str) -> Iterator[Fields]:
    """Yield the objects of a file of JSON lines; a missing file holds none.

    Blank lines are skipped; a last line that a crash cut off is left out, with a warning.

    Parameters
    ----------
    path : Path
        The file.
    fix : str
        What to do about a line that cannot be used; ``{line}`` stands for its number.

    Raises
    ------
    DataError
        The file, or a line that is not the cut-off last one, cannot be read.
    """
    try:
        lines = list(complete_lines(path)) if path.exists() else []
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Name a readable file.") from None
    for number, line in lines:
        if not line.strip():
            continue
        place, advice = f"{path}, line {number}", fix.replace("{line}", str(number))
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: not readable as JSON ({error}). {advice}") from error
        yield Fields(values, place, advice)


def read_object(path: Path, fix: str) -> Fields:
    """Read a file that holds one JSON object.

    Parameters
    ----------
    path : Path
        The file.
    fix : str
        What to do about a file that cannot be used: a sentence.

    Raises
    ------
    DataError
        It cannot be read, or holds something else.
    """
    try:
        check_regular(path)
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error}). {fix}") from error
    return Fields(values, str(path), fix)


def encoded_line(values: object) -> bytes:
    """Return a line for a file of JSON lines."""
    return f"{json_line(values)}\n".encode()


def write_line(file: BinaryIO, values: object) -> None:
    """Add a line to a file, and wait until it is on the disk.

    Parameters
    ----------
    file : file
        In a folder that ``--output`` names; opened with ``open(path, "ab", buffering=0)``.
    values : object
        What JSON can hold.

    Raises
    ------
    StorageError
        The file cannot be written. It is as it was before.
    """
    append_whole(file, encoded_line(values), "--output")
    with storing(Path(file.name).parent, "--output"):
        os.fsync(file.fileno())
