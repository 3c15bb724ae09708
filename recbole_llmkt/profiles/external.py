"""Profiles that were made elsewhere: a file of JSON lines, or an atomic file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from recbole_llmkt.datasets.atomic import AtomicFile, value_of
from recbole_llmkt.profiles.store import Profile, longest_text, too_long, utc_now
from recbole_llmkt.profiles.thoughts import without_thoughts
from recbole_llmkt.utils.entities import ENTITIES
from recbole_llmkt.utils.exceptions import ConfigError, DataError
from recbole_llmkt.utils.jsonl import Fields, read_objects
from recbole_llmkt.utils.text import one_line, printable
from recbole_llmkt.utils.types import RunConfig

_TEXT_NAMES = ("text", "profile")
_FIX = "Correct line {line}, or delete it."

# Place in the file, entity (None if the file does not say), id, text, digest of the history.
_Row = tuple[str, "str | None", str, str, "str | None"]


def read_external(path: Path, config: RunConfig) -> list[tuple[str | None, Profile]]:
    """Read the profiles of a file, each with its entity (None if the file does not say).

    Ids are named ``user_id``, ``item_id``, ``uid``, ``iid`` or as the dataset's own fields are;
    ``id`` leaves the entity open. The text is named ``text`` or ``profile``. ``history``, if it is
    there, is the digest of the interactions that a user's profile was written from.

    Parameters
    ----------
    path : Path
        JSON lines (``.jsonl``, ``.json``), or an atomic file.
    config : recbole_llmkt.config.Config
        For the names of the fields, the separators, the encoding and ``profile_max_tokens``.

    Raises
    ------
    DataError
        The file cannot be read, or a line holds no profile, a second one of an id, or a text that
        is longer than ``profile_max_tokens`` allows.
    """
    if not path.is_file():
        raise DataError(f"There is no file '{path}' of profiles: correct the path.")
    names = _id_names(config)
    is_json = path.suffix.lower() in (".jsonl", ".json")
    rows = _json_rows(path, names) if is_json else _atomic_rows(path, config, names)
    longest = longest_text(config)
    profiles: dict[tuple[str | None, str], Profile] = {}
    for place, entity, token, raw, history in rows:
        text = without_thoughts(printable(raw)).strip()
        problem = too_long(text, longest)
        if problem:
            raise DataError(
                f"{place}: the profile of {one_line(token)!r} cannot be imported: {problem}. "
                "Shorten it, or raise profile_max_tokens."
            )
        if (entity, token) in profiles:
            raise DataError(
                f"{place}: a second profile of '{one_line(token)}'. Delete one of them."
            )
        profiles[entity, token] = Profile(
            id=token,
            text=text,
            generator="file",
            model=path.name,
            prompt="",
            history=history,
            time=utc_now(),
        )
    if not profiles:
        raise DataError(f"There is no profile in '{path}'.")
    return [(entity, profile) for (entity, _), profile in profiles.items()]


def external_profiles(path: Path, entity: str, config: RunConfig) -> list[Profile]:
    """Return the profiles of a file that are those of an entity, or may be.

    Raises
    ------
    DataError
        There are none, or the file cannot be read: see :func:`read_external`.
    """
    rows = read_external(path, config)
    profiles = [profile for whose, profile in rows if whose in (None, entity)]
    if not profiles:
        raise DataError(
            f"'{path}' has no {entity} profiles: no line has the key {entity}_id. Choose "
            "another --entity or another file."
        )
    return profiles


def entities_in(path: Path, config: RunConfig) -> tuple[str, ...]:
    """Return whose profiles a file says it has: users, items, or both.

    Raises
    ------
    ConfigError
        It does not say.
    DataError
        The file cannot be read.
    """
    named = {entity for entity, _ in read_external(path, config)}
    if None in named:
        raise ConfigError(
            f"'{path}' does not say whose profiles they are: give --entity=user or --entity=item, "
            "or name its ids user_id or item_id."
        )
    return tuple(entity for entity in ENTITIES if entity in named)


def _id_names(config: RunConfig) -> dict[str, str | None]:
    names: dict[str, str | None] = {}
    for entity in ENTITIES:
        for name in (config[f"{entity.upper()}_ID_FIELD"], f"{entity}_id", f"{entity[0]}id"):
            names.setdefault(name, entity)
    names.setdefault("id", None)
    return names


def _json_rows(path: Path, names: dict[str, str | None]) -> Iterator[_Row]:
    for fields in read_objects(path, _FIX):
        name = next((name for name in names if fields.value(name) is not None), None)
        text = next((name for name in _TEXT_NAMES if fields.value(name) is not None), None)
        token = None if name is None else _token(fields.value(name))
        if name is None or token is None or text is None:
            raise fields.error(
                "a profile needs 'id' (or user_id, item_id), a text or a whole number, and "
                "'text' (or profile)"
            )
        yield fields.place, names[name], token, fields.required(text, str), _history(fields)


def _history(fields: Fields) -> str | None:
    return fields.optional("history", str)


def _token(value: object) -> str | None:
    """Return an id as the atomic files have it; None if it can be none (null, 1e5, a list)."""
    is_id = isinstance(value, (str, int)) and not isinstance(value, bool)
    return str(value) if is_id else None


def _atomic_rows(path: Path, config: RunConfig, names: dict[str, str | None]) -> Iterator[_Row]:
    table = AtomicFile(path, config)
    id_name = next((name for name in names if name in table.columns), None)
    text_name = next((name for name in _TEXT_NAMES if name in table.columns), None)
    if id_name is None or text_name is None:
        raise DataError(
            f"'{path}' needs a column of ids ({', '.join(names)}) and one of texts "
            f"({' or '.join(_TEXT_NAMES)}); there are {', '.join(table.columns)}."
        )
    for number, row in enumerate(table.rows(), start=1):
        text = row[text_name]
        if table.types[text_name].endswith("seq"):
            text = text.replace(table.seq_separator, " ")
        history = value_of(row.get("history", "")) or None
        yield f"{path}, row {number}", names[id_name], row[id_name], text, history
