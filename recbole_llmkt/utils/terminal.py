"""What commands print: never what a terminal acts on, whoever wrote it."""

from __future__ import annotations

import click

from recbole_llmkt.utils.text import printable

INTERRUPTED = 130  # the exit code by which shells report Ctrl-C


def echo(text: object, err: bool = False) -> None:
    """Print a text of whatever origin.

    Parameters
    ----------
    text : object
        Its lines stay, and escape sequences do not.
    err : bool
        To the standard error.
    """
    click.echo(printable(str(text)), err=err)
