"""The key of an OpenAI-compatible server: where it comes from, and that it is never shown."""

from __future__ import annotations

import os
from typing import Any

from recbole_llmkt.utils.exceptions import ConfigError

_LONGEST_ERROR = 300


def service_key(settings: Any) -> str:
    """Return the key in the environment variable that ``profile_api_key_env`` names.

    Parameters
    ----------
    settings : mapping or recbole_llmkt.config.Config
        The ``profile_*`` keys.

    Returns
    -------
    str
        ``"none"`` for a server of one's own that wants no key.

    Raises
    ------
    ConfigError
        The variable is not set, and the server is OpenAI's.
    """
    variable = settings["profile_api_key_env"]
    key = os.environ.get(variable, "").strip()
    if not key and not settings["profile_api_base"]:
        raise ConfigError(
            f"The environment variable {variable} holds no key for the OpenAI service: set it, "
            "or name another server with profile_api_base."
        )
    return key or "none"


def without_key(error: BaseException, key: str) -> str:
    """Return an error's first 300 characters, without the key should a server echo it."""
    text = " ".join((str(error) or type(error).__name__).split())
    return (text.replace(key, "***") if len(key) > len("none") else text)[:_LONGEST_ERROR]
