"""The command ``llmkt doctor``: what works on this machine, what does not, and the fix."""

from __future__ import annotations

import importlib.util
import logging
import os
import platform
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from recbole_llmkt import __version__
from recbole_llmkt.utils.exceptions import LLMKTError
from recbole_llmkt.utils.terminal import echo

Status = Literal["ok", "off", "FAIL"]
_SECONDS = 3
_ENCODERS = ("sentence-transformers/all-MiniLM-L6-v2", "wordllama")
# Optional libraries: what each is for, and the extra that installs it.
_EXTRAS = {
    "optuna": ("llmkt tune", "tune"),
    "umap": ("kt_transform: umap and the map of profiles", "umap"),
    "openai": ("profiles and embeddings from a server", "openai"),
    "pyarrow": ("Parquet files", "parquet"),
    "ray": ("profile_engine: ray", "ray"),
    "wandb": ("log_wandb: True", "wandb"),
}
_TINY = "".join(f"u{user}\ti{(user + step) % 12}\n" for user in range(20) for step in range(5))


@dataclass(frozen=True)
class Check:
    """A line of the report.

    Attributes
    ----------
    status : str
        ``ok``; ``off``: something optional is not there; ``FAIL``.
    name : str
        What was looked at.
    words : str
        What was seen, and the fix where there is something to fix.
    """

    status: Status
    name: str
    words: str


def check_machine() -> Iterator[Check]:
    """Look at everything that a run may need.

    Yields
    ------
    Check
        In the order of the report, each as soon as it is known.
    """
    looks: tuple[Callable[[], Iterable[Check]], ...] = (
        _python,
        _recbole,
        _torch,
        _extras,
        _folders,
        _network,
        _encoders,
        _training,
    )
    for look in looks:
        try:
            yield from look()
        except Exception as error:
            words = (
                str(error) if isinstance(error, LLMKTError) else f"{type(error).__name__}: {error}"
            )
            yield Check("FAIL", look.__name__.strip("_"), " ".join(words.split()))


def _python() -> list[Check]:
    bits = 64 if sys.maxsize > 2**32 else 32
    words = f"{platform.python_version()}, {bits} bit, recbole_llmkt {__version__}, {sys.prefix}"
    return [Check("ok" if bits == 64 else "FAIL", "python", words)]


def _recbole() -> list[Check]:
    from recbole_llmkt.compat import active_repairs, check_release, versions

    check_release()
    repairs = active_repairs()
    return [
        Check("ok", "recbole", versions()),
        Check("ok", "repairs", "; ".join(repairs) or "none is needed with these versions"),
    ]


def _torch() -> list[Check]:
    import torch

    from recbole_llmkt.experiment.runs.pool import cores

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [Check("ok", "devices", f"{', '.join(devices) or 'no GPU'}; {cores()} cores")]


def _extras() -> list[Check]:
    missing = [
        f"{use} (pip install 'recbole_llmkt[{extra}]')"
        for library, (use, extra) in _EXTRAS.items()
        if importlib.util.find_spec(library) is None
    ]
    present = [library for library in _EXTRAS if importlib.util.find_spec(library) is not None]
    checks = [Check("ok", "extras", ", ".join(present) or "none")]
    return checks + [Check("off", "extras", f"without {words}") for words in missing]


def _folders() -> list[Check]:
    folders = {
        "this folder": Path.cwd(),
        "temporary files": Path(tempfile.gettempdir()),
        "the hub's cache": Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser(),
    }
    checks = []
    for name, folder in folders.items():
        place = next(path for path in (folder, *folder.parents) if path.exists())
        words = f"{name}: {folder}"
        if os.access(place, os.W_OK):
            checks.append(Check("ok", "write", words))
        else:
            checks.append(Check("FAIL", "write", f"{words} is read-only: choose another place"))
    return checks


def _network() -> list[Check]:
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        with urllib.request.urlopen(hub, timeout=_SECONDS):
            return [Check("ok", "network", f"{hub} answers")]
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        words = f"{hub} does not answer ({reason}): models must be on this machine already"
        return [Check("off", "network", words)]


def _encoders() -> Iterator[Check]:
    from recbole_llmkt.config import Config
    from recbole_llmkt.profiles.encoders import get_encoder

    for name in _ENCODERS:
        values = {"profile_encoder": name, "profile_device": "cpu", "kt_enabled": False}
        try:
            width = get_encoder(Config("BPR", "ml-100k", None, values, [])).encode(["a"]).shape[1]
        except LLMKTError as error:
            yield Check("off", "encoder", f"{name}: {error}")
        else:
            yield Check("ok", "encoder", f"{name}, {width} numbers a profile")


def _training() -> list[Check]:
    """Train a model for an epoch, on invented data."""
    from recbole_llmkt.config import Config
    from recbole_llmkt.quick_start import train

    folder = os.getcwd()
    with tempfile.TemporaryDirectory() as place:
        data = Path(place, "tiny", "tiny.inter")
        data.parent.mkdir()
        data.write_text(f"user_id:token\titem_id:token\n{_TINY}", encoding="utf-8")
        values = {
            "data_path": place,
            "load_col": {"inter": ["user_id", "item_id"]},
            "eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "mode": "full"},
            "epochs": 1,
            "kt_enabled": False,
            "show_progress": False,
            "state": "ERROR",
        }
        os.chdir(place)
        try:
            train(Config("BPR", "tiny", None, values, []), saved=False, verbose=False)
        finally:
            os.chdir(folder)
    return [Check("ok", "training", "BPR trains and is evaluated")]


@click.command(epilog="Example: llmkt doctor")
@click.pass_context
def doctor(context: click.Context) -> None:
    """Say what works on this machine, what does not, and the fix.

    Nothing is written. The exit code is 1 if something that every run needs does not work.
    """
    log = logging.getLogger("recbole_llmkt")
    level = log.level
    log.setLevel(logging.ERROR)  # the report says what the log would
    failed = False
    try:
        for check in check_machine():
            echo(f"{check.status:<5} {check.name:<9} {check.words}")
            failed |= check.status == "FAIL"
    finally:
        log.setLevel(level)
    context.exit(int(failed))
