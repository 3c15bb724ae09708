"""The ``llmkt`` command; what a subcommand needs is imported when it runs."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import threading

import click

from recbole_llmkt import __version__
from recbole_llmkt.utils.exceptions import LLMKTError, nearest
from recbole_llmkt.utils.terminal import INTERRUPTED, echo
from recbole_llmkt.utils.text import printable, shown_command

_EXPERIMENT = "recbole_llmkt.cli.experiments"
_COMMANDS = {
    "train": ("recbole_llmkt.cli.train", "train", "Train and test one model."),
    "doctor": ("recbole_llmkt.cli.doctor", "doctor", "Say what works here, and the fix."),
    "compare": (_EXPERIMENT, "compare", "Compare arms over models and seeds."),
    "tune": (_EXPERIMENT, "tune", "Tune every arm the same way, by validation alone."),
    "report": (_EXPERIMENT, "report", "Rebuild the report of a comparison."),
    "import": (
        "recbole_llmkt.cli.import_data",
        "import_command",
        "Make a dataset from your own tables.",
    ),
    "journal": ("recbole_llmkt.cli.journal", "journal", "List all runs of a folder."),
    "profile": ("recbole_llmkt.cli.profile", "profile", "Write, check and embed profiles."),
    "layers": ("recbole_llmkt.cli.layers", "layers", "List the layers of a model."),
    "export": ("recbole_llmkt.cli.export", "export", "Write vectors or recommendations to files."),
    "refresh": (
        "recbole_llmkt.cli.refresh",
        "refresh",
        "Bring a model and its exports up to date.",
    ),
    "refit": ("recbole_llmkt.cli.refit", "refit", "Train the chosen settings on all data."),
    "recommend": ("recbole_llmkt.cli.recommend", "recommend", "Recommend, with reasons."),
}
_RESUMING = ("compare", "tune", "profile", "refresh")
_RESUMES = " What is finished is kept; the same command resumes."


class _Commands(click.Group):
    """A group that imports its commands when they run, and shows errors in one line."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        context.obj = shown_command(["llmkt", *args])  # for reports; the parser empties the list
        return super().parse_args(context, args)

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS:
            context.fail(f"No such command '{args[0]}'.{nearest(args[0], _COMMANDS)}")
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, _COMMANDS[name][2]) for name in self.list_commands(context)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, context: click.Context) -> object:
        try:
            result: object = super().invoke(context)
            return result
        except (LLMKTError, OSError) as error:
            if context.params["debug"]:
                raise
            message = printable(_words(error))
            if getattr(error, "is_full", False) and context.invoked_subcommand in _RESUMING:
                message += _RESUMES
            raise _Refusal(message) from error
        except KeyboardInterrupt:
            resumes = context.invoked_subcommand in _RESUMING
            echo(f"Interrupted.{_RESUMES if resumes else ''}", err=True)
            context.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            try:
                from recbole_llmkt.compat import versions
            except LLMKTError as unsupported:  # a RecBole that lacks what was imported
                raise _Refusal(str(unsupported)) from error
            echo(f"This is a bug in the program, seen with {versions()}:", err=True)
            raise


def _words(error: LLMKTError | OSError) -> str:
    """Return an error in one line; what the operating system refuses gets a fix."""
    if isinstance(error, LLMKTError) or not (error.filename and error.strerror):
        return str(error)
    return (
        f"Cannot use '{error.filename}': {error.strerror}. Give this user access to it, or name "
        "another place."
    )


class _PlainFormatter(logging.Formatter):
    """Log lines without control characters: ids and titles come from other people's files."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _OnceFilter(logging.Filter):
    """Drops repeated information: users and items are read with the same settings."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        is_new = message not in self._messages
        self._messages.add(message)
        return is_new or record.levelno > logging.INFO


class _Refusal(click.ClickException):
    exit_code = 2


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="llmkt")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def main(context: click.Context, debug: bool) -> None:
    """Knowledge transfer from language models into RecBole's recommenders.

    \b
    Example:
      llmkt compare --models=NeuMF,SimpleX --arms=base,kt --seeds=1,2 --dataset=ml-100k -o out
    """  # noqa: D301 - click reads the control character
    handler = logging.StreamHandler()
    handler.addFilter(_OnceFilter())
    handler.setFormatter(_PlainFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("recbole_llmkt").setLevel(logging.INFO)
    _end_as_with_ctrl_c(context)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # for class paths of the user's own models and losses


def _end_as_with_ctrl_c(context: click.Context) -> None:
    """Let SIGTERM, by which clusters end a process, end a command as Ctrl-C does."""
    if threading.current_thread() is threading.main_thread():  # Python sets signals nowhere else
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        context.call_on_close(lambda: signal.signal(signal.SIGTERM, before))
