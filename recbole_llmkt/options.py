"""What the commands of ``llmkt`` share in reading their command lines."""

from __future__ import annotations

import click

# Settings of a command that takes --key=value for any key, in its argument `keys`.
ANY_KEY = {"ignore_unknown_options": True}


def names(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    """Split a list of names, separated by commas: a callback of click's options."""
    return [name.strip() for name in (value or "").split(",") if name.strip()]
