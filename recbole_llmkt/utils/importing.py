"""Import a class by its path."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TypeVar

from recbole_llmkt.utils.exceptions import ConfigError, LLMKTError

Made = TypeVar("Made")


def import_class(path: str) -> type:
    """Import ``package.module.Class``.

    Raises
    ------
    ConfigError
        The module cannot be imported or has no such class.
    """
    module_name, _, class_name = path.rpartition(".")
    try:
        imported = getattr(importlib.import_module(module_name), class_name)
    except LLMKTError:
        raise
    except Exception as error:  # anything may go wrong in somebody else's module
        kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        words = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(
            f"Cannot import '{path}': {kind}{words}. Write package.module.Class of something that "
            "Python can import from here."
        ) from error
    if not isinstance(imported, type):
        raise ConfigError(f"'{path}' is not a class.")
    return imported


def import_subclass(key: str, path: str, base: type[Made]) -> type[Made]:
    """Import the class that a key names by its path.

    Parameters
    ----------
    key : str
        The key, for messages.
    path : str
        Its value, ``package.module.Class``.
    base : type
        What the class must derive from, a public name of this package.

    Raises
    ------
    ConfigError
        The class cannot be imported, or derives from something else.
    """
    try:
        imported = import_class(path)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error
    if not issubclass(imported, base):
        raise ConfigError(
            f"{key}: '{path}' is not a subclass of {base.__qualname__}: derive it from "
            f"recbole_llmkt.{base.__qualname__}."
        )
    return imported


def make_own(key: str, path: str, make: Callable[[], Made]) -> Made:
    """Make an object of a class that a key names by its path.

    Raises
    ------
    ConfigError
        Its constructor fails, or a method that it must have is missing.
    """
    try:
        return make()
    except LLMKTError:
        raise
    except Exception as error:  # anything may go wrong in somebody else's constructor
        words = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(
            f"{key}: '{path}' cannot be created: {type(error).__name__}: {words}. "
            "Correct the class."
        ) from error
