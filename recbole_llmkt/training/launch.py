"""Start the processes that train one model together on this machine."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import torch
from torch import multiprocessing
from torch.multiprocessing.spawn import (
    ProcessContext,
    ProcessExitedException,
    ProcessRaisedException,
)

from recbole_llmkt.compat import torch_quiet
from recbole_llmkt.training.stopping import Interrupted
from recbole_llmkt.utils.exceptions import LLMKTError

Value = TypeVar("Value")


def in_processes(function: Callable[[int], Value], count: int) -> Value:
    """Call a function in several processes, and return what it returns in the first.

    Parameters
    ----------
    function : callable
        Called with the number of the process on this machine, from 0; it is pickled.
    count : int
        Processes.

    Raises
    ------
    LLMKTError
        The first that any of them raises; the others are stopped.
    Interrupted
        Ctrl-C or SIGTERM, where the first process leaves a checkpoint.
    """
    outcomes = multiprocessing.get_context("spawn").SimpleQueue()
    context: ProcessContext = multiprocessing.spawn(  # type: ignore[attr-defined,no-untyped-call]
        _call, args=(function, count, outcomes), nprocs=count, join=False
    )
    received: list[Any] = []

    def receive() -> None:
        while not outcomes.empty():
            received.append(outcomes.get())

    try:
        while not context.join(timeout=0.05):
            receive()  # a full pipe would keep a process from ending
        receive()
    except (ProcessExitedException, ProcessRaisedException):
        receive()
        _raise_first(received)
        raise
    except KeyboardInterrupt:
        # The others go on meanwhile, so the first one is not left waiting for them.
        context.processes[0].terminate()
        context.processes[0].join()
        receive()
        _raise_first(received)
        raise
    finally:
        for process in context.processes:
            process.kill()
            process.join()
    result: Value = received[0]
    return result


def _raise_first(received: list[Any]) -> None:
    for outcome in received:
        if isinstance(outcome, BaseException):
            raise outcome from None


def _call(
    number: int,
    function: Callable[[int], object],
    count: int,
    outcomes: multiprocessing.SimpleQueue[object],
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent decides
    if number == 0:
        signal.signal(signal.SIGTERM, _interrupt)
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    try:
        with torch_quiet():
            result = function(number)
    except (LLMKTError, Interrupted) as error:
        outcomes.put(error)
        raise SystemExit(1) from None
    if number == 0:
        outcomes.put(result)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
