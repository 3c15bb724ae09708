"""A run that was stopped, and resumes from the checkpoint that it left."""

from __future__ import annotations

import random

import pytest
import torch

from recbole_llmkt.checkpoints import load_checkpoint
from recbole_llmkt.quick_start import train
from recbole_llmkt.training.stopping import Interrupted
from recbole_llmkt.utils.exceptions import ConfigError, DataError

KEYS = {"epochs": 4, "eval_batch_size": 4096, "kt_projector": "linear"}


def stopped(tiny, model, last=1, **keys):
    """Train until Ctrl-C after an epoch, and return the checkpoint that is left."""

    def stop(epoch, score):
        if epoch == last:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        train(tiny.config(model, **KEYS, **keys), verbose=False, on_epoch=stop)
    return caught.value.checkpoint


def shuffle_lines(tiny):
    path = tiny.folder / "tiny.inter"
    header, *lines = path.read_text().splitlines()
    random.Random(5).shuffle(lines)
    path.write_text("\n".join([header, *lines]) + "\n")


@pytest.mark.parametrize("shuffled", [False, True], ids=["same files", "shuffled lines"])
@pytest.mark.parametrize("model", ["BPR", "NeuMF"])
def test_a_resumed_run_equals_an_uninterrupted_one(tiny, model, shuffled):
    whole = train(tiny.config(model, **KEYS), verbose=False)
    checkpoint = stopped(tiny, model)
    before = load_checkpoint(checkpoint)
    if shuffled:
        shuffle_lines(tiny)
    result = train(tiny.config(model, **KEYS), verbose=False, resume=checkpoint)
    assert result["checkpoint"] == checkpoint
    for key in ("best_valid_score", "best_valid_result", "test_result", "transfer", "slices"):
        assert result[key] == whole[key], key
    expected, after = load_checkpoint(whole["checkpoint"]), load_checkpoint(checkpoint)
    assert after["epoch"] == expected["epoch"] > before["epoch"]
    for name, weights in expected["state_dict"].items():
        assert torch.equal(weights, after["state_dict"][name]), name


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"learning_rate": 0.5}, r"learning_rate 0\.001 -> 0\.5"),
        ({"kt_weight": 0.1}, r"kt_weight 0\.5 -> 0\.1"),
        ({"train_batch_size": 32}, "train_batch_size 64 -> 32"),
    ],
)
def test_other_settings_are_refused(tiny, keys, message):
    checkpoint = stopped(tiny, "BPR")
    with pytest.raises(ConfigError, match=message):
        train(tiny.config("BPR", **{**KEYS, **keys}), verbose=False, resume=checkpoint)


def test_a_run_may_be_longer_and_elsewhere(tiny):
    checkpoint = stopped(tiny, "BPR", kt_enabled=False)
    keys = {**KEYS, "epochs": 6, "checkpoint_dir": "elsewhere", "kt_enabled": False}
    seen = []
    config = tiny.config("BPR", **keys)
    train(config, verbose=False, resume=checkpoint, on_epoch=lambda epoch, _: seen.append(epoch))
    assert seen == [2, 3, 4, 5]


def test_other_interactions_are_refused(tiny):
    checkpoint = stopped(tiny, "BPR", kt_enabled=False)
    path = tiny.folder / "tiny.inter"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    count = len(lines) - 1
    message = f"of {count} interactions that it knows, {count - 1} are in the current files"
    with pytest.raises(DataError, match=message):
        train(tiny.config("BPR", **KEYS, kt_enabled=False), verbose=False, resume=checkpoint)


def test_without_a_checkpoint_an_interrupt_is_just_that(tiny):
    def stop(epoch, score):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        train(tiny.config("BPR", **KEYS), saved=False, verbose=False, on_epoch=stop)
    assert not isinstance(caught.value, Interrupted)
