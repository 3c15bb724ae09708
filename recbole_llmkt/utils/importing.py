"""Import a class by its path."""

from __future__ import annotations

import importlib

from recbole_llmkt.utils.exceptions import ConfigError


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
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(
            f"Cannot import '{path}': {error}. Write package.module.Class of something that "
            "Python can import from here."
        ) from error
    if not isinstance(imported, type):
        raise ConfigError(f"'{path}' is not a class.")
    return imported
