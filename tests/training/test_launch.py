import functools
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from recbole_llmkt.training import launch
from recbole_llmkt.training.launch import in_processes
from recbole_llmkt.training.stopping import Interrupted
from recbole_llmkt.utils.exceptions import TrainingError


@pytest.fixture(autouse=True)
def forked(monkeypatch):
    """Fork the processes: they need not import everything anew."""
    spawn = functools.partial(torch.multiprocessing.start_processes, start_method="fork")
    monkeypatch.setattr(launch.multiprocessing, "spawn", spawn)


def test_the_first_process_returns_whatever_size():
    assert in_processes(lambda rank: f"{rank}" * 300_000, 2) == "0" * 300_000


def _fail(rank):
    if rank == 1:
        raise TrainingError("the loss is NaN.")
    time.sleep(60)


def test_an_error_of_one_process_ends_all_and_is_told_in_its_words():
    start = time.perf_counter()
    with pytest.raises(TrainingError, match=r"^the loss is NaN\.$"):
        in_processes(_fail, 2)
    assert time.perf_counter() - start < 50


def _defect(rank):
    raise RuntimeError("a defect")


def test_a_defect_keeps_its_traceback():
    with pytest.raises(torch.multiprocessing.ProcessRaisedException, match="a defect"):
        in_processes(_defect, 2)


def _interruptible(rank):
    try:
        Path(f"waiting-{rank}").touch()
        time.sleep(60)
    except KeyboardInterrupt:
        raise Interrupted("best.pth") from None


def test_ctrl_c_waits_for_what_the_first_process_leaves():
    def interrupt():
        while len([*Path().glob("waiting-*")]) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    # Where the tests run in the background, Ctrl-C is ignored.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(Interrupted) as interrupted:
        in_processes(_interruptible, 2)
    signal.signal(signal.SIGINT, ignored)
    assert interrupted.value.checkpoint == "best.pth"


def test_processes_share_the_threads():
    threads = torch.get_num_threads()
    assert in_processes(lambda rank: torch.get_num_threads(), 2) == max(1, threads // 2)
