"""Runs in processes of their own, a few at a time.

Each run gets a fresh process, so RecBole's global state and the random streams of two runs never
mix. Processes are forked from a clean server that has imported RecBole already (where the system
has one), so a run starts at once.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from recbole_llmkt.config import Config
from recbole_llmkt.evaluation.per_user import FILE_NAME as USERS_FILE
from recbole_llmkt.experiment.runs.plan import Run
from recbole_llmkt.utils.exceptions import ConfigError, LLMKTError

Train = Callable[..., "dict[str, Any]"]
# Keys whose value is a path, or may be one, relative to the folder that all was started in.
_PATHS = ("data_path", "profile_dir")
_PERHAPS_PATHS = ("profile_encoder", "pre_model_path")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Event:
    """News of a run.

    Attributes
    ----------
    run : Run
        Which one.
    kind : str
        ``"start"``, ``"epoch"`` (value: epoch, validation score), ``"done"`` (value: what
        ``train`` returned, and seconds) or ``"failed"`` (value: a message, and seconds).
    value : object
        See ``kind``.
    """

    run: Run
    kind: str
    value: Any = None


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_jobs(n_runs: int) -> int:
    """Return how many runs go at a time: one per core, and one only where there is a GPU."""
    import torch

    return 1 if torch.cuda.is_available() else max(1, min(cores(), n_runs))


def output_folder(folder: Path) -> Path:
    """Make the folder of a comparison or a study.

    Raises
    ------
    ConfigError
        It is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output: '{folder}' is a file; name a folder.")
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_all(runs: Iterable[Run], folder: Path, jobs: int, train: Train) -> Iterator[Event]:
    """Train ``runs``, at most ``jobs`` at a time, and yield their news.

    Parameters
    ----------
    runs : iterable of Run
        What to train, in this order. The next one is taken only when a process is free for it, and
        after the caller has seen all news: it may depend on what came of the earlier ones.
    folder : Path
        Each run works in ``folder/runs/<name>``: output, logs and checkpoint go there.
    jobs : int
        Processes at once; each gets ``cores / jobs`` threads, or ``OMP_NUM_THREADS``.
    train : callable
        ``recbole_llmkt.quick_start.train`` or something with its signature.

    Yields
    ------
    Event
        ``start`` and then, at last, ``done`` or ``failed`` for every run.
    """
    # More threads than cores wait for each other: a small model then trains ten times slower.
    threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, cores() // jobs))
    context = _context(threads)
    waiting = iter(runs)
    active: dict[Connection, tuple[Run, Any, float]] = {}
    try:
        while True:
            for run in itertools.islice(waiting, jobs - len(active)):
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(
                    target=_work, args=(run, folder / "runs" / run.name, threads, train, sender)
                )
                process.start()
                sender.close()  # so that the end of the process ends the pipe
                active[receiver] = (run, process, time.monotonic())
                yield Event(run, "start")
            if not active:
                return
            for receiver in wait(list(active)):
                assert isinstance(receiver, Connection)
                event = _receive(receiver, *active[receiver])
                if event.kind in ("done", "failed"):
                    active.pop(receiver)[1].join()
                    receiver.close()
                yield event
    finally:
        for _, process, _ in active.values():
            process.terminate()
            process.join()


def _context(threads: int) -> Any:
    for name in _THREADS:  # read when the numerical libraries are loaded
        os.environ.setdefault(name, str(threads))
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # torch imports the last one, for seconds, with the first optimizer: once is enough
    context.set_forkserver_preload(["recbole_llmkt.quick_start", __name__, "torch._dynamo"])
    return context


def _receive(receiver: Connection, run: Run, process: Any, started: float) -> Event:
    try:
        kind, value = receiver.recv()
    except EOFError:
        process.join()
        kind, value = "failed", f"its process ended early ({_exit_reason(process.exitcode)})"
    if kind in ("done", "failed"):
        value = {"result": value, "seconds": round(time.monotonic() - started, 2)}
    return Event(run, kind, value)


def _exit_reason(code: int | None) -> str:
    if code == -9:
        return "killed: most likely it ran out of memory; fewer --jobs need less"
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _work(run: Run, folder: Path, threads: int, train: Train, sender: Connection) -> None:
    """Train one run in this process and send what comes of it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        config = run.config()
        _make_absolute(config)
        _move_to(folder)
        import torch

        torch.set_num_threads(threads)
        result = train(
            config,
            saved=True,
            on_epoch=lambda epoch, score: sender.send(("epoch", (int(epoch), float(score)))),
        )
        users = result.pop("users", None)
        if users is not None:
            users.save(Path(USERS_FILE))
        sender.send(("done", json.loads(json.dumps(result, default=_plain))))
    except Exception as error:
        traceback.print_exc()
        own = isinstance(error, LLMKTError)
        sender.send(("failed", str(error) if own else f"{type(error).__name__}: {error}"))


def _end_with_parent() -> None:
    """Leave no run behind when the comparison is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make_absolute(config: Config) -> None:
    """Keep paths working when the process moves to the run's folder; checkpoints go there."""
    for key in (*_PATHS, *_PERHAPS_PATHS):
        if config[key] and (key in _PATHS or Path(str(config[key])).exists()):
            config[key] = str(Path(config[key]).resolve())
    config["checkpoint_dir"] = "saved"
    config["show_progress"] = False


def _move_to(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    log = os.open("output.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)


def _plain(value: Any) -> Any:
    """Turn numpy's and torch's numbers into Python's, anything else into text."""
    return value.item() if hasattr(value, "item") else str(value)
