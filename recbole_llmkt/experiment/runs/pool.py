"""Runs in processes of their own, a few at a time.

Each run gets a fresh process, so RecBole's global state and the random streams of two runs never
mix. Where the system allows, processes are forked from a clean server that has already imported
RecBole, so a run starts at once.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol, Union
from unittest.mock import patch

from recbole_llmkt.config import Config
from recbole_llmkt.evaluation.per_user import FILE_NAME as USERS_FILE
from recbole_llmkt.experiment.runs.plan import Run
from recbole_llmkt.experiment.runs.records import RunResult
from recbole_llmkt.keys.hyperparameters import FILES
from recbole_llmkt.training.result import Result
from recbole_llmkt.utils.exceptions import ConfigError, LLMKTError
from recbole_llmkt.utils.files import storing
from recbole_llmkt.utils.jsonl import Fields

LOG_FILE = "output.log"  # of a run, in its folder
# Keys whose value is a path, or may be one, relative to the folder where the command started.
_PATHS = ("data_path", "profile_dir")
_POSSIBLE_PATHS = ("profile_encoder", *FILES)
_RESULT_FIX = "Training must return what recbole_llmkt.quick_start.train returns."
# Settings of runs, for the server of processes; longer ones fit into no variable.
SHARED_VARIABLE = "RECBOLE_LLMKT_SHARED_DATA"
_LONGEST = 100_000
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Train(Protocol):
    """Trains one run: :func:`recbole_llmkt.quick_start.train`, or a stand-in."""

    def __call__(
        self, config: Config, *, saved: bool = ..., on_epoch: Callable[[int, float], None] = ...
    ) -> Result:
        """Return the result of training."""
        ...


@dataclass(frozen=True)
class Started:
    """A run has started."""

    run: Run


@dataclass(frozen=True)
class Validated:
    """A run was validated after ``epoch`` (from 0), with this score."""

    run: Run
    epoch: int
    score: float


@dataclass(frozen=True)
class Ended:
    """A run has ended after ``seconds``: with a result, or without one because of ``error``."""

    run: Run
    seconds: float
    result: RunResult | None = None
    error: str = ""


Event = Union[Started, Validated, Ended]


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_jobs(n_runs: int) -> int:
    """Return how many runs go at a time: one per core, but only one if there is a GPU."""
    import torch

    return 1 if torch.cuda.is_available() else max(1, min(cores(), n_runs))


def output_folder(folder: Path) -> Path:
    """Create the folder of a comparison or a study.

    Raises
    ------
    ConfigError
        It is a file.
    StorageError
        It cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output: '{folder}' is a file; name a folder.")
    folder = folder.resolve()
    with storing(folder, "--output"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_all(runs: Iterable[Run], folder: Path, jobs: int, train: Train) -> Iterator[Event]:
    """Train ``runs``, at most ``jobs`` at a time, and yield their events.

    Parameters
    ----------
    runs : iterable of Run
        What to train, in this order. The next run is taken only when a process is free for it, and
        after the caller has seen every event so far: it may depend on the earlier results.
    folder : Path
        Each run works in ``folder/runs/<name>``: output, logs and checkpoint go there.
    jobs : int
        Processes at once; each gets ``cores / jobs`` threads, or ``OMP_NUM_THREADS``.
    train : callable
        Trains one run.

    Yields
    ------
    Event
        For every run ``Started``, any number of ``Validated``, and ``Ended``.
    """
    threads = threads_per_run(jobs)
    context = _context()
    waiting = iter(runs)
    first = list(itertools.islice(waiting, jobs))
    known = runs if isinstance(runs, Sequence) else first
    waiting = itertools.chain(first, waiting)
    active: dict[Connection, _Worker] = {}
    try:
        while True:
            for run in itertools.islice(waiting, jobs - len(active)):
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(  # type: ignore[attr-defined]
                    target=_work, args=(run, folder / "runs" / run.name, threads, train, sender)
                )
                with _thread_variables(threads), _sharing(known):
                    process.start()
                sender.close()  # so that the end of the process ends the pipe
                active[receiver] = _Worker(run, process, time.monotonic())
                yield Started(run)
            if not active:
                return
            for ready in wait(list(active)):
                assert isinstance(ready, Connection)
                event = active[ready].receive(ready)
                if isinstance(event, Ended):
                    active.pop(ready).process.join()
                    ready.close()
                yield event
    finally:
        for worker in active.values():
            worker.process.terminate()
            worker.process.join()


def threads_per_run(jobs: int) -> int:
    """Return the threads of each of ``jobs`` runs: ``OMP_NUM_THREADS``, or a share of the cores.

    More threads than cores wait for each other: a small model then trains ten times slower.
    """
    return int(os.environ.get("OMP_NUM_THREADS") or max(1, cores() // jobs))


@contextmanager
def _thread_variables(threads: int) -> Iterator[None]:
    """Set the variables that numerical libraries read when they are loaded, and unset them again.

    Only those that are unset: what the user set stays.
    """
    unset = [name for name in _THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(unset, str(threads)))
    try:
        yield
    finally:
        for name in unset:
            os.environ.pop(name, None)


@contextmanager
def _sharing(runs: Sequence[Run]) -> Iterator[None]:
    """Tell the server of processes, which may be started now, what data the runs will read."""
    by_model = {run.model: run.given for run in reversed(runs)}
    # No addresses with their passwords: what reads the data is RecBole's alone.
    own = ("kt_", "profile_")
    read = [
        {key: value for key, value in given.items() if not key.startswith(own)}
        for given in by_model.values()
    ]
    text = json.dumps([{**given, "kt_enabled": False} for given in read])
    with patch.dict(os.environ, {SHARED_VARIABLE: text if len(text) < _LONGEST else "[]"}):
        yield


@dataclass(frozen=True)
class _Worker:
    """The process of a run."""

    run: Run
    process: BaseProcess
    started: float

    def receive(self, receiver: Connection) -> Event:
        """Return the next event of the run."""
        try:
            message = receiver.recv()
        except EOFError:
            self.process.join()
            message = f"its process ended early ({_exit_reason(self.process.exitcode)})"
        if isinstance(message, tuple):
            return Validated(self.run, *message)
        seconds = round(time.monotonic() - self.started, 2)
        if isinstance(message, RunResult):
            return Ended(self.run, seconds, message)
        return Ended(self.run, seconds, error=message)


def _context() -> BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recbole_llmkt.experiment.runs.server"])
    return context


def _exit_reason(code: int | None) -> str:
    if code == -9:
        return "killed: most likely it ran out of memory; fewer --jobs need less"
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _work(run: Run, folder: Path, threads: int, train: Train, sender: Connection) -> None:
    """Train one run in this process and send its epochs, then its result or its error."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        config = run.config()
        make_absolute(config)
        _move_to(folder)
        _limit_threads(threads)
        sender.send(train_run(run, config, train, lambda *score: sender.send(score)))
    except Exception as error:
        traceback.print_exc()
        sender.send(error_message(error))


def train_run(
    run: Run, config: Config, train: Train, on_epoch: Callable[[int, float], None]
) -> RunResult:
    """Train one run in this process and folder.

    Parameters
    ----------
    run : Run
        What is trained.
    config : Config
        Its configuration.
    train : callable
        Trains it.
    on_epoch : callable
        Takes the number of each validated epoch, from 0, and its score.
    """
    result = train(
        config, saved=True, on_epoch=lambda epoch, score: on_epoch(int(epoch), float(score))
    )
    users = result.pop("users", None)
    if users is not None:
        users.save(Path(USERS_FILE))
    plain = json.loads(json.dumps(result, default=_plain))
    return RunResult.read(Fields(plain, f"The result of {run.name}", _RESULT_FIX))


def error_message(error: Exception) -> str:
    """Return what the record of a failed run says."""
    return str(error) if isinstance(error, LLMKTError) else f"{type(error).__name__}: {error}"


def _limit_threads(threads: int) -> None:
    """Limit the libraries, which the server may have loaded for fewer runs at a time."""
    import threadpoolctl
    import torch

    torch.set_num_threads(threads)
    pools = threadpoolctl.threadpool_info()
    threadpoolctl.threadpool_limits(
        {pool["prefix"]: threads for pool in pools if pool["num_threads"] > threads}
    )


def _end_with_parent() -> None:
    """End the runs when the comparison is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def make_absolute(config: Config) -> None:
    """Keep paths working when the process moves to the run's folder; checkpoints go there.

    Parameters
    ----------
    config : Config
        The run's; it is changed.
    """
    for key in (*_PATHS, *_POSSIBLE_PATHS):
        if config[key] and (key in _PATHS or os.path.exists(str(config[key]))):
            config[key] = str(Path(config[key]).resolve())
    config["checkpoint_dir"] = "saved"
    config["show_progress"] = False


def _move_to(folder: Path) -> None:
    with storing(folder, "--output"):
        folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    log = os.open(LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)


def _plain(value: object) -> object:
    """Turn numpy's and torch's numbers into Python's, anything else into text."""
    return value.item() if hasattr(value, "item") else str(value)
