"""Profiles on disk: one line of JSON each, appended as soon as it is written."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

from recbole_llmkt.utils.entities import ENTITIES
from recbole_llmkt.utils.exceptions import DataError, ProfileError
from recbole_llmkt.utils.files import append_whole, drop_cut_line, exclusive, replace_file
from recbole_llmkt.utils.jsonl import complete_lines, read_object
from recbole_llmkt.utils.text import json_line, printable
from recbole_llmkt.utils.types import Settings, SettingsLike

logger = logging.getLogger(__name__)

_CHARACTERS_PER_TOKEN = 10
TOO_LONG = "it was too long"

FORMAT_VERSION = 1
# Forcing each line to the disk takes 5 ms on a slow one: 200 profiles a second and no more.
_SYNC_SECONDS = 0.5


@dataclass(frozen=True)
class Profile:
    """What a generator wrote about one user or item, and from what.

    Attributes
    ----------
    id : str
        The entity's token in the atomic files.
    text : str
        The profile; empty if the generator failed. On the disk it has no control characters and
        no terminal escapes.
    generator, model : str
        Who wrote it: the generator's name, and the language model's.
    prompt : str
        Digest of the prompt template.
    history : str or None
        :func:`~recbole_llmkt.datasets.history.history_digest` of the interactions it was written
        from; None if it was written from metadata or world knowledge only.
    time : str
        When, in UTC, ISO 8601.
    tokens_in, tokens_out : int
        Tokens of the prompt and of the answer.
    edited : bool
        A person corrected the text.
    error : str or None
        Why there is no profile.
    """

    id: str
    text: str
    generator: str
    model: str
    prompt: str
    history: str | None
    time: str
    tokens_in: int = 0
    tokens_out: int = 0
    edited: bool = False
    error: str | None = None

    @property
    def usable(self) -> bool:
        """Whether there is a text, and no error."""
        return self.error is None and bool(self.text.strip())


def utc_now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class ProfileStore:
    """The profiles of one kind of entity: ``<folder>/user.jsonl`` or ``<folder>/item.jsonl``.

    Lines are only ever appended; the last line of an id wins. The operating system has each line
    when :meth:`append` returns, so a process that is killed loses nothing that it was told is
    kept; they are forced to the disk every half second, so that is what a power cut can cost.

    Parameters
    ----------
    folder : str or Path
        Folder of the profiles; made when the first profile is written.
    entity : str
        ``"user"`` or ``"item"``.

    Examples
    --------
    >>> store = ProfileStore("dataset/mine/profiles", "user")  # doctest: +SKIP
    >>> with store.writing():  # doctest: +SKIP
    ...     store.append(profile)
    >>> store.read()["42"].text  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path, entity: str) -> None:
        if entity not in ENTITIES:
            raise ProfileError(f"Unknown entity '{entity}': choose user or item.")
        self.folder = Path(folder)
        self.entity = entity
        self.path = self.folder / f"{entity}.jsonl"
        self._file: BinaryIO | None = None
        self._synced = 0.0

    def exists(self) -> bool:
        """Whether there is a file of profiles."""
        return self.path.is_file()

    def read(self) -> dict[str, Profile]:
        """Return the last profile of every id, failed ones included, in the order of first lines.

        A last line that was cut off while it was written is left out, with a logged note.

        Raises
        ------
        ProfileError
            Another line is no profile.
        """
        return {profile.id: profile for profile in self.scan()}

    def scan(self) -> Iterator[Profile]:
        """Yield the profile of every line, failed ones and earlier ones of an id included.

        Raises
        ------
        ProfileError
            A line is no profile.
        """
        if self.exists():
            for number, line in complete_lines(self.path):
                yield self._parse(line, number)

    def usable(self) -> list[Profile]:
        """Return the profiles with a text and without an error."""
        return [profile for profile in self.read().values() if profile.usable]

    @contextmanager
    def writing(self) -> Iterator[ProfileStore]:
        """Hold the exclusive right to write; it ends with the block or with the process.

        Raises
        ------
        ProfileError
            Another process (or another block of this one) is writing.
        """
        with exclusive(self.folder / f".{self.entity}.lock"):
            drop_cut_line(self.path)
            try:
                with self.path.open("ab", buffering=0) as self._file:
                    file = self._file
                    try:
                        yield self
                    finally:
                        os.fsync(file.fileno())
            finally:
                self._file = None

    def append(self, profile: Profile) -> None:
        """Write one profile, inside :meth:`writing`.

        Raises
        ------
        ProfileError
            The store is not open for writing.
        StorageError
            The disk is full; all earlier profiles are kept.
        """
        if self._file is None:
            raise ProfileError(f"{self.path} is not open: append inside `with store.writing():`.")
        append_whole(self._file, _line(profile), "profile_dir")
        now = time.monotonic()
        if now - self._synced >= _SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = now

    def merge(self, parts: Iterable[ProfileStore]) -> int:
        """Append what other stores have that is newer, and return how many profiles that were.

        Texts that a person edited stay. Merging the same parts again adds nothing.

        Parameters
        ----------
        parts : iterable of ProfileStore
            Stores of the same kind of entity.
        """
        added = 0
        with self.writing():
            known = self.read()
            for part in parts:
                for token, profile in part.read().items():
                    old = known.get(token)
                    if old is None or (profile.time > old.time and not old.edited):
                        self.append(profile)
                        known[token] = profile
                        added += 1
        return added

    def _parse(self, line: bytes, number: int) -> Profile:
        try:
            values = json.loads(line.decode("utf-8-sig"))  # editors of Windows add a mark
            if not isinstance(values, dict):
                raise TypeError("it is not a JSON object")
            missing = sorted(_REQUIRED - values.keys())
            if missing:
                raise TypeError(f"it has no '{missing[0]}'")
            known = {name: value for name, value in values.items() if name in _TYPES}
            _check_types(known)
            known["text"] = printable(known["text"])
            return Profile(**known)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ProfileError(
                f"Line {number} of {self.path} is not a profile ({error}). Delete the line; "
                "`llmkt profile` writes that profile again."
            ) from error


_REQUIRED = {field.name for field in fields(Profile) if field.default is MISSING}
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("id", "text", "generator", "model", "prompt", "time"), str),
    **dict.fromkeys(("history", "error"), (str, type(None))),
    **dict.fromkeys(("tokens_in", "tokens_out"), int),
    "edited": object,
}


def _check_types(values: Mapping[str, object]) -> None:
    for name, kind in _TYPES.items():
        if name in values and not isinstance(values[name], kind):
            raise TypeError(f"its '{name}' has a wrong type")


def _line(profile: Profile) -> bytes:
    # Whatever wrote it: no text with control characters reaches the disk.
    clean = replace(profile, text=printable(profile.text))
    return f"{json_line(asdict(clean))}\n".encode()


def read_manifest(folder: str | Path) -> Settings:
    """Return ``<folder>/manifest.json``, or an empty dict if there is none.

    Raises
    ------
    ProfileError
        The file is no manifest, or was written by a newer version of this package.
    """
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        return {}
    try:
        fields = read_object(path, "It is no manifest: delete it.")
        version = fields.required("format", int)
    except DataError as error:
        raise ProfileError(str(error)) from error
    if version > FORMAT_VERSION:
        raise ProfileError(f"{path} has format {version}: install a newer recbole_llmkt.")
    return {name: fields.value(name) for name in fields.names()}


def write_manifest(folder: str | Path, values: Mapping[str, object]) -> None:
    """Write ``<folder>/manifest.json``: what the profiles are, for people and for checks.

    Parameters
    ----------
    folder : str or Path
        Folder of the profiles.
    values : mapping
        Plain values: dataset, generator, model, eval_args of the histories, licence, notes;
        they are laid over those that the manifest has already.
    """
    manifest = {**read_manifest(folder), **values, "format": FORMAT_VERSION}
    text = json_line(dict(sorted(manifest.items())), indent=2) + "\n"
    replace_file(Path(folder) / "manifest.json", text.encode(), "profile_dir")


def stale(
    store: ProfileStore,
    histories: Mapping[str, str | None],
    is_replaced: Callable[[Profile], bool],
) -> list[str]:
    """List the ids whose profile is missing, to be replaced, or written from another history.

    Parameters
    ----------
    store : ProfileStore
        The profiles.
    histories : mapping of str to str or None
        The wanted ids and the digest of each one's history today; None for entities that are
        described without a history.
    is_replaced : callable
        Tells whether a profile is replaced although its history is up to date.

    Returns
    -------
    list of str
        In the order of ``histories``. Failed profiles are not listed (see :func:`failed`), and
        neither are texts that a person edited.
    """
    profiles = store.read()

    def is_fresh(token: str, digest: str | None) -> bool:
        profile = profiles.get(token)
        if profile is None:
            return False
        return profile.edited or (profile.history == digest and not is_replaced(profile))

    return [token for token, digest in histories.items() if not is_fresh(token, digest)]


def failed(profiles: Iterable[Profile]) -> list[str]:
    """List the ids of profiles that a generator could not write."""
    return [profile.id for profile in profiles if profile.error is not None]


def longest_text(settings: SettingsLike) -> int:
    """Return how many characters a profile may have: ten for each of ``profile_max_tokens``."""
    return _CHARACTERS_PER_TOKEN * int(settings["profile_max_tokens"])


def too_long(text: str, longest: int) -> str | None:
    """Say that a text has more characters than allowed; None if it has not."""
    if len(text) <= longest:
        return None
    return (
        f"{TOO_LONG}: {len(text)} characters, where profile_max_tokens allows {longest} "
        f"({_CHARACTERS_PER_TOKEN} a token)"
    )
