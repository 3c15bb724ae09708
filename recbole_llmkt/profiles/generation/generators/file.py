"""Profiles made elsewhere, read from a file."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbole_llmkt.profiles.generation.generators.base import Answer, Generator, Request
from recbole_llmkt.profiles.generation.generators.thoughts import without_thoughts
from recbole_llmkt.utils.entities import ENTITIES
from recbole_llmkt.utils.exceptions import ConfigError, DataError
from recbole_llmkt.utils.text import printable
from recbole_llmkt.utils.types import SettingsLike

logger = logging.getLogger(__name__)

# Whose profile a line is; "id" leaves it to whoever reads.
_ID_KEYS: dict[str, str | None] = {"user_id": "user", "item_id": "item", "id": None}
_TEXT_KEYS = ("text", "profile")


class FileGenerator(Generator):
    """Take profiles from ``profile_file``.

    The file is JSONL with the keys ``user_id``, ``item_id`` or ``id`` (of whom, the call says),
    ``text`` (or ``profile``) and, optional, ``history``; or an atomic file of two columns, token
    and text, the first named likewise. It may hold users and items. A user's profile counts as
    free of test data only if its ``history`` is the digest of that user's training interactions:
    who wrote the file knows what it was written from.

    Raises
    ------
    ConfigError
        ``profile_file`` is not given.
    DataError
        The file is missing, or a line of it cannot be read.
    """

    uses_prompt = False
    is_language_model = False

    def __init__(self, settings: SettingsLike) -> None:
        super().__init__(settings)
        if not settings["profile_file"]:
            raise ConfigError("profile_generator: file needs profile_file: the file's path.")
        self.path = Path(settings["profile_file"])
        self._profiles = read_profiles(self.path)

    @classmethod
    def model_of(cls, settings: SettingsLike) -> str:
        """Return the name of the file."""
        return Path(settings["profile_file"]).name

    def profiles_of(self, entity: str) -> dict[str, tuple[str, str | None]]:
        """Return the profiles of the users or of the items: text and history digest by token.

        Raises
        ------
        DataError
            There are none of them.
        """
        known = self._profiles.items()
        found = {token: one for (whose, token), one in known if whose is None}
        found.update({token: one for (whose, token), one in known if whose == entity})
        if not found:
            raise DataError(
                f"'{self.path}' has no {entity} profiles: none of its lines says {entity}_id."
            )
        return found

    def answer_batch(self, requests: list[Request]) -> list[Answer]:
        """Look the requests up; what the file does not have is left out."""
        answers = []
        for request in requests:
            keys = ((request.entity, request.id), (None, request.id))
            found = next((self._profiles[key] for key in keys if key in self._profiles), None)
            if found is not None:
                answers.append(Answer(request.id, *found))
        return answers


def entities_of(path: Path) -> tuple[str, ...]:
    """Return whose profiles a file says it has: users, items, or both.

    Raises
    ------
    ConfigError
        Its lines do not say.
    DataError
        The file cannot be read.
    """
    named = {whose for whose, _ in read_profiles(path)}
    if None in named:
        raise ConfigError(
            f"'{path}' does not say whose profiles they are: give --entity=user or --entity=item, "
            "or call its ids user_id or item_id."
        )
    return tuple(entity for entity in ENTITIES if entity in named)


def read_profiles(path: Path) -> dict[tuple[str | None, str], tuple[str, str | None]]:
    """Read text and history digest (or None) by entity (None if it is not said) and token.

    Raises
    ------
    DataError
        The file cannot be read, or a line of it holds no profile.
    """
    reader = _json_lines if path.suffix.lower() in (".jsonl", ".json") else _atomic_lines
    found: dict[tuple[str | None, str], tuple[str, str | None]] = {}
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, (key, text, history) in reader(file, path):
                if key in found:
                    raise DataError(f"Line {number} of '{path}' is a second profile of '{key[1]}'.")
                found[key] = (without_thoughts(printable(text)), history)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read profile_file '{path}': {error}.") from error
    if not found:
        raise DataError(f"There is no profile in '{path}'.")
    return found


_Row = tuple[int, tuple[tuple["str | None", str], str, "str | None"]]


def _json_lines(file: Any, path: Path) -> Iterator[_Row]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"Line {number} of '{path}' is no JSON: {error}.") from error
        keys = values if isinstance(values, dict) else {}
        token = next(((_ID_KEYS[key], _token(keys[key])) for key in _ID_KEYS if key in keys), None)
        text = next((keys[key] for key in _TEXT_KEYS if isinstance(keys.get(key), str)), None)
        history = keys.get("history")
        if token is None or token[1] is None or text is None:
            raise DataError(
                f"Line {number} of '{path}' needs the keys 'id' (or user_id, item_id), a text or a "
                "whole number, and 'text' (or profile)."
            )
        if not isinstance(history, (str, type(None))):
            raise DataError(
                f"Line {number} of '{path}': its 'history' is no digest, but {history}."
            )
        yield number, ((token[0], token[1]), text, history)


def _token(value: Any) -> str | None:
    """Return an id as the atomic files have it; None if it can be none (null, 1e5, a list)."""
    is_id = isinstance(value, (str, int)) and not isinstance(value, bool)
    return str(value) if is_id else None


def _atomic_lines(file: Any, path: Path) -> Iterator[_Row]:
    header = next(file, "")  # names and types of the columns
    whose = _ID_KEYS.get(header.partition(":")[0].strip())
    for number, line in enumerate(file, start=2):
        if not line.strip():
            continue
        cells = line.rstrip("\n").split("\t")
        if len(cells) != 2:
            raise DataError(
                f"Line {number} of '{path}' has {len(cells)} cells; an atomic file of profiles "
                "has two, separated by a tab: token and text."
            )
        yield number, ((whose, cells[0]), cells[1], None)
