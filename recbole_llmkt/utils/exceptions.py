"""The errors of this package: each message says what is wrong, where, and how to fix it."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from recbole_llmkt.utils.text import one_line, printable

_REPAIRS = "recbole_llmkt.compat"


class LLMKTError(Exception):
    """Base of every error that this package raises on purpose.

    Parameters
    ----------
    message : str
        Becomes one line without what a terminal acts on: it quotes files and settings of others.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(self._shown(message))

    def _shown(self, message: str) -> str:
        return one_line(message)


class ConfigError(LLMKTError, ValueError):
    """A configuration key or value that cannot be used."""


class DataError(LLMKTError, ValueError):
    """An atomic file, a column or a results file that cannot be used."""


class BadRowsError(DataError):
    """Rows that cannot be used, on a line each."""

    def _shown(self, message: str) -> str:
        return printable(message)


class ProfileError(LLMKTError, ValueError):
    """Profiles or profile embeddings that are missing or unusable."""


class LeakError(ProfileError):
    """A profile that was written from other interactions than the run's training split."""


class LayerError(LLMKTError, ValueError):
    """A layer that cannot be found, never runs, or gets no gradient."""


class RowsError(LLMKTError, ValueError):
    """Rows of a tapped tensor whose meaning cannot be decided, or that do not fit it."""


class StorageError(LLMKTError, OSError):
    """A file that cannot be written: the disk is full, or the folder is read-only.

    Attributes
    ----------
    is_full : bool
        The disk is full: what had been written before is there.
    """

    is_full = False


class TrainingError(LLMKTError, ValueError):
    """A loss that is no longer a finite number."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the choice nearest to ``name``, or ``""``.

    Parameters
    ----------
    name : str
        What was given.
    choices : iterable of str
        What is allowed.
    """
    pool = list(choices)
    lowered = {choice.lower(): choice for choice in reversed(pool)}
    matches = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.5)
    return f" Did you mean '{lowered[matches[0]]}'?" if matches else ""


def reason_of(error: BaseException) -> str:
    """Return what an error of another library says, as one line without a full stop."""
    text = " ".join(str(error).split()).rstrip(" .")
    if "allow_pickle" in text or "Python objects" in text:  # numpy says how to run it
        return "it holds Python objects (a pickle), which are not read"
    return text or type(error).__name__


@contextmanager
def recbole_refusals(describe: Callable[[str], LLMKTError]) -> Iterator[None]:
    """Turn what RecBole raises within the block into an error of this package.

    An exception of this package's own code is a bug and passes through unchanged.

    Parameters
    ----------
    describe : callable
        Makes the error from RecBole's message, which comes as one line without a full stop.
    """
    try:
        yield
    except LLMKTError:
        raise
    except Exception as error:
        if not raised_by_recbole(error):
            raise
        words = " ".join(str(error).split()).rstrip(" .") or "no reason given"
        if not isinstance(error, (ValueError, NotImplementedError)):  # 'item_id' alone says little
            words = f"{type(error).__name__}: {words}"
        raise describe(words) from error


def raised_by_recbole(error: BaseException) -> bool:
    """Tell whether RecBole, or a library that RecBole called, raised an exception.

    The innermost frame of the traceback that is RecBole's or this package's decides; what
    repairs RecBole's calls (``recbole_llmkt.compat``) stands in between and does not count.
    """
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        module = str(frame.f_globals.get("__name__", ""))
        package = "" if module.startswith(_REPAIRS) else module.partition(".")[0]
        if package in ("recbole", "recbole_llmkt"):
            return package == "recbole"
    return False
