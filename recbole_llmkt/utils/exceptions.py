"""The errors of this package: each message says what is wrong, where, and the mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LLMKTError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(LLMKTError, ValueError):
    """A configuration key or value that cannot be used."""


class DataError(LLMKTError, ValueError):
    """An atomic file, a column or a results file that cannot be used."""


class ProfileError(LLMKTError, ValueError):
    """Profiles or profile embeddings that are missing or unusable."""


class LeakError(ProfileError):
    """A profile that was written from other interactions than the run's training split."""


class LayerError(LLMKTError, ValueError):
    """A layer that cannot be found, never runs, or gets no gradient."""


class RowsError(LLMKTError, ValueError):
    """Rows of a tapped tensor whose meaning cannot be decided, or that do not fit it."""


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
    found = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.5)
    return f" Did you mean '{lowered[found[0]]}'?" if found else ""
