"""Trainings that end early say what was kept."""

from __future__ import annotations

import errno
import logging
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from recbole_llmkt.checkpoints import load_checkpoint
from recbole_llmkt.quick_start import train
from recbole_llmkt.training.stopping import Interrupted, stoppable
from recbole_llmkt.utils import files
from recbole_llmkt.utils.exceptions import StorageError
from tests.helpers import limited_files, prepare


@contextmanager
def own_log():
    """Let a run make its own log, as it does outside of pytest."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        yield
    finally:
        root.handlers = handlers


def test_a_full_disk_in_training_is_one_line(tiny, capsys):
    leftover = Path("saved/.BPR.pth.0123abcd.partial")
    leftover.parent.mkdir(exist_ok=True)
    leftover.write_bytes(b"half a checkpoint")
    config = tiny.config(epochs=200, learning_rate=0.05, stopping_step=200, kt_enabled=False)
    with own_log(), limited_files() as limit, pytest.raises(StorageError) as stopped:
        train(config, on_epoch=lambda epoch, score: limit(2000) if epoch == 0 else None)
    (kept,) = Path("saved").iterdir()
    assert load_checkpoint(str(kept))["epoch"] == 0
    assert str(stopped.value) == (
        "Cannot write in saved: File too large. Free some space there, or name a folder on another "
        f"disk with checkpoint_dir. {kept} holds the best epoch so far: resume from it with "
        f"--resume={kept}."
    )
    shown = capsys.readouterr().err
    assert "Traceback" not in shown and "Logging error" not in shown
    assert shown.count("cannot be written: File too large. Training continues without this") == 1


def test_a_full_disk_before_the_first_checkpoint(tiny):
    no_epoch = pytest.raises(
        StorageError, match=r"^Cannot write in saved: .* with checkpoint_dir\.$"
    )
    with no_epoch, limited_files() as limit:
        limit(2000)
        train(tiny.config(epochs=1, kt_enabled=False))
    assert not list(Path("saved").iterdir())


def test_ctrl_c_in_the_test_names_the_checkpoint(tiny):
    run = prepare(tiny.config(epochs=1, kt_enabled=False))
    run.fit(saved=True)
    with pytest.raises(Interrupted) as stopped, stoppable(run.trainer, saved=True):
        raise KeyboardInterrupt
    assert stopped.value.checkpoint == run.trainer.saved_model_file
    for saved, trainer in ((False, run.trainer), (True, object())):
        with pytest.raises(KeyboardInterrupt) as plain, stoppable(trainer, saved):
            raise KeyboardInterrupt
        assert not isinstance(plain.value, Interrupted)


def test_other_failures_of_the_system_are_left_as_they_are(tiny):
    with pytest.raises(ConnectionError), stoppable(object(), saved=True):
        raise ConnectionError(errno.ECONNREFUSED, "Connection refused")


def test_a_folder_for_logs_that_cannot_be_written_is_named(tiny):
    Path("log").write_text("a file")
    with pytest.raises(StorageError, match=r"Cannot write in log/BPR: .*work in another folder\.$"):
        train(tiny.config(epochs=1, kt_enabled=False))
    Path("log").unlink()
    Path("mine").write_text("a file")
    with pytest.raises(StorageError, match=r"Cannot write in mine/new: .*with checkpoint_dir\.$"):
        train(tiny.config(epochs=1, kt_enabled=False, checkpoint_dir="mine/new"))


@pytest.mark.parametrize("name", ["saved", "log/BPR", "log_tensorboard"])
def test_a_folder_that_is_read_only_stops_before_the_first_step(tiny, monkeypatch, name):
    def refuse(dir):
        if dir == Path(name):
            raise PermissionError(errno.EACCES, "Permission denied")
        return tempfile.TemporaryFile(dir=dir)

    monkeypatch.setattr(files, "TemporaryFile", refuse)  # root may write anywhere
    with pytest.raises(StorageError, match=rf"^Cannot write in {name}: Permission denied\. Make"):
        train(tiny.config(epochs=1, kt_enabled=False))
    assert not [path for path in Path().rglob("*") if path.is_file()]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ValueError("a fault")])
def test_a_thread_that_finds_the_disk_full_prints_nothing(error, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr(threading, "excepthook", shown.append)

    def fail():
        raise error

    with stoppable(object(), saved=True):
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert len(shown) == isinstance(error, ValueError)
