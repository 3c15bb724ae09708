"""What the commands of ``llmkt`` share in reading their command lines."""

from __future__ import annotations

import shlex

import click

from recbole_llmkt.exceptions import ConfigError

# Settings of a command that takes --key=value for any key, in its argument `keys`.
ANY_KEY = {"ignore_unknown_options": True}
LARGEST_SEED = 2**31 - 1


def names(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    """Split a list of names, separated by commas: a callback of click's options."""
    return [name.strip() for name in (value or "").split(",") if name.strip()]


def split_words(text: str, place: str) -> list[str]:
    """Split words as a shell does, with quotes around those that have blanks.

    Parameters
    ----------
    text : str
        The words.
    place : str
        Where they were given, for the message.

    Raises
    ------
    ConfigError
        A quote does not end.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(
            f"{place}: cannot read [{text}] ({error}). A quote within a word has a backslash "
            "before it, or the word stands in quotes of the other kind."
        ) from error
