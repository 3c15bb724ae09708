"""RecBole's own functions, called so that they do what they promise."""

from __future__ import annotations

import importlib
import io
import logging
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from recbole.utils import ModelType

from recbole_llmkt.compat import (
    create_dataset,
    data_preparation,
    environment_table,
    log_held_back,
    recbole,
    start_log,
)
from recbole_llmkt.config import Config


@pytest.mark.parametrize(
    ("model", "kind", "name"),
    [
        ("BPR", ModelType.GENERAL, "Dataset"),
        ("SASRec", ModelType.SEQUENTIAL, "SequentialDataset"),
        ("KGAT", ModelType.KNOWLEDGE, "KnowledgeBasedDataset"),
        ("DIEN", ModelType.SEQUENTIAL, "DIENDataset"),  # a model with a class of its own
    ],
)
def test_the_dataset_is_of_the_class_that_recbole_picks(model, kind, name):
    config = {"model": model, "MODEL_TYPE": kind, "dataset": "d", "checkpoint_dir": "saved"}
    picked = create_dataset(config, adapt=lambda dataset_class: lambda config: dataset_class)
    assert picked.__name__ == name


@pytest.mark.parametrize(
    ("keys", "pairs"),
    [
        ({"kt_enabled": True}, 1 << 20),
        ({"kt_enabled": False}, 4096),  # as stock RecBole
        ({"kt_enabled": False, "kt_fast_ranking": True}, 1 << 20),
        ({"kt_enabled": True, "eval_batch_size": 130}, 130),
    ],
)
def test_many_users_are_ranked_at_once_unless_a_size_is_given(tiny, keys, pairs):
    values = {**tiny.config("BPR").plain(), **keys}
    if "eval_batch_size" not in keys:
        del values["eval_batch_size"]
    config = Config(config_dict=values, command_line=[])
    for equal in (config, Config(config_dict=config.plain(), command_line=[])):
        _, *evaluated = data_preparation(equal, create_dataset(equal))
        n_items = evaluated[0]._dataset.item_num
        assert [loader.step for loader in evaluated] == 2 * [pairs // n_items]
        assert equal["eval_batch_size"] == keys.get("eval_batch_size", 4096)


class Keep(logging.Handler):
    """Keep messages, as RecBole's log would write them."""

    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


@pytest.fixture
def own_log(monkeypatch):
    """Stand in for RecBole's log; a test is to start with :func:`no_handlers`."""
    log = Keep()
    monkeypatch.setattr(recbole, "start_log", lambda config: logging.getLogger().addHandler(log))
    return log


@contextmanager
def no_handlers():
    """Take pytest's own handlers off the root logger for a while."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    root.handlers = []
    root.setLevel(logging.WARNING)
    try:
        yield root
    finally:
        root.handlers = handlers
        root.setLevel(level)


def test_what_is_logged_before_the_log_starts_comes_into_it(own_log):
    logger = logging.getLogger("tests.held_back")
    with no_handlers() as root:
        with log_held_back({"state": "INFO"}):
            logger.info("read")
            logger.warning("odd")
            assert own_log.messages == []
        assert own_log.messages == ["odd"]  # by the level that the log started with
        assert root.level == logging.WARNING


def test_after_an_error_no_log_is_started(own_log):
    with no_handlers() as root:
        with pytest.raises(ValueError, match="wrong input"), log_held_back({"state": "INFO"}):
            raise ValueError("wrong input")
        assert root.handlers == []


def test_a_program_with_a_log_of_its_own_gets_records_at_once(own_log):
    with no_handlers() as root:
        root.addHandler(own_log)
        with log_held_back({"state": "INFO"}):
            logging.getLogger("tests.held_back").warning("odd")
            assert own_log.messages == ["odd"]
        assert own_log.messages == ["odd"]


def test_folders_of_the_log_may_be_there_already(monkeypatch):
    started = []
    monkeypatch.setattr(recbole, "init_logger", started.append)
    config = {"model": "BPR", "checkpoint_dir": "deep/saved", "local_rank": 0}
    start_log(config)
    start_log(config)
    assert started == [config, config]
    assert Path("log/BPR").is_dir()
    assert Path("deep/saved").is_dir()


def test_the_load_of_the_processors_takes_no_second_to_measure(tiny, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waited {seconds} s"))
    table = environment_table(tiny.config())
    assert [row in table for row in ("CPU", "GPU", "Memory")] == [True] * 3


def test_the_output_is_wrapped_once_however_many_runs_there_are(tiny, monkeypatch):
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    config = tiny.config()
    start_log(config)
    wrapped = sys.stdout
    start_log(config)
    assert sys.stdout is wrapped is not sys.__stdout__


@pytest.mark.parametrize(("wanted", "shown"), [("", "\x1b[31mred"), ("1", "red")])
def test_no_color_is_heeded(monkeypatch, wanted, shown):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setenv("NO_COLOR", wanted)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with recbole._own_colours():
        importlib.import_module("recbole.utils.logger").init(autoreset=False)
    sys.stdout.write("\x1b[31mred")
    assert screen.getvalue() == shown
