"""Two processes on CPUs train what one trains, and measure what one measures."""

from __future__ import annotations

import functools
import logging
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recbole_llmkt import quick_start
from recbole_llmkt.quick_start import load_data_and_model
from recbole_llmkt.training import launch
from recbole_llmkt.utils.exceptions import ConfigError
from tests.helpers import LABELED, TinyDataset, add_profiles

CLICKS = {
    **LABELED,
    "metrics": ["AUC", "LogLoss"],
    "shuffle": False,
    "train_batch_size": 60,
    "kt_loss": "mse",
    "kt_projector": "linear",
    "dropout_prob": 0.0,
    "learner": "sgd",  # Adam makes steps of the rounding error where a gradient is zero
    "learning_rate": 0.1,
}


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the processes: they need not import everything anew."""
    spawn = functools.partial(torch.multiprocessing.start_processes, start_method="fork")
    monkeypatch.setattr(launch.multiprocessing, "spawn", spawn)


@pytest.fixture
def even(make_dataset: Any) -> TinyDataset:
    """Return a dataset of 31 users with six training rows each."""
    dataset: TinyDataset = make_dataset(n_users=31, per_user=(10, 11))
    add_profiles(dataset)
    return dataset


def train(
    dataset: TinyDataset, model: str, nproc: int, saved: bool = True, **keys: Any
) -> dict[str, Any]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    logging.getLogger().handlers.clear()  # for RecBole to start its log
    settings = dataset.settings(**{"state": "INFO", "checkpoint_dir": f"saved-{nproc}", **keys})
    result: Any = quick_start.run(
        *(model, dataset.name, None, settings, saved), nproc=nproc, port=port, command_line=[]
    )
    return result


def weights(result: dict[str, Any]) -> dict[str, Any]:
    return torch.load(result["checkpoint"], weights_only=True)


def logged_losses() -> list[float]:
    """Return the training losses in the newest log, and remove it: there is one."""
    (log,) = Path("log").rglob("*.log")
    losses = re.findall(r"train loss: ([\d.]+)", log.read_text())
    log.unlink()
    return [float(loss) for loss in losses]


@pytest.mark.parametrize("model", ["FM", "DCN"])
def test_two_processes_train_what_one_trains(even, forked, model):
    """They share each batch, and DCN takes the statistics of all of it."""
    keys = {**CLICKS, "loss_decimal_place": 7, "eval_step": 0}
    one = train(even, model, 1, **keys)
    losses = logged_losses()
    two = train(even, model, 2, **keys)
    assert logged_losses() == pytest.approx(losses, rel=1e-6) and len(losses) == 4
    for curve in ("model_loss", "transfer_loss"):
        assert two["transfer"][curve] == pytest.approx(one["transfer"][curve], rel=1e-5)
    first, second = weights(one), weights(two)
    projectors = [state["transfer"]["methods"]["loss"]["projectors"] for state in (first, second)]
    for ours, other in zip(projectors[0]["0"].values(), projectors[1]["0"].values()):
        assert torch.allclose(ours, other, atol=1e-5)
    for name, values in first["state_dict"].items():
        assert torch.allclose(values, second["state_dict"][name], atol=1e-5), name


def test_every_user_counts_once(even, forked, monkeypatch):
    """Metrics, slices and users are those that one process finds with the same checkpoint."""
    keys = {
        "metrics": ["Recall", "NDCG", "ItemCoverage", "GiniIndex", "AveragePopularity"],
        "kt_hybrid": "neighbours",
        "kt_weight": 0.0,
        "epochs": 6,
        "stopping_step": 1,
    }
    two = train(even, "BPR", 2, **keys)
    (checkpoint,) = Path("saved-2").iterdir()
    assert str(checkpoint) == two["checkpoint"] and len([*Path("log_tensorboard").iterdir()]) == 1
    assert len(two["users"].tokens) == 31
    config, model, _, train_data, _, test_data = load_data_and_model(str(checkpoint))
    trainer = quick_start.get_trainer(config["MODEL_TYPE"], "BPR")(config, model)
    trainer.eval_collector.data_collect(train_data)
    trainer.saved_model_file = str(checkpoint)
    tested = quick_start._test(config, trainer, train_data, test_data, True)
    assert tested["test_result"] == two["test_result"] and tested["slices"] == two["slices"]
    for name, values in tested["users"].values.items():
        assert np.array_equal(values, two["users"].values[name])


def test_phases_and_early_stopping_are_in_step(even, forked):
    """Each process enters phase 2, and leaves it, with the others; an error of one ends all."""
    result = train(even, "BPR", 2, epochs=30, kt_epochs=2, stopping_step=1, learning_rate=0.1)
    (log,) = Path("log").rglob("*.log")
    text = log.read_text()
    assert "Phase 2 (fine-tuning) begins with epoch 2" in text and "Finished training" in text
    assert result["transfer"]["phase_switch"] == 2 and text.count("training [") < 30
    with pytest.raises(ConfigError, match="kt_weigth"):
        train(even, "BPR", 2, kt_weigth=0.1)


@pytest.mark.slow
def test_processes_of_their_own(even):
    """As a user starts them: none shares what this process has imported."""
    assert train(even, "BPR", 2)["test_result"]
