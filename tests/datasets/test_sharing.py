"""Datasets that runs share: what a run takes over is what it would have read."""

from __future__ import annotations

import logging

import pytest
import torch

from recbole_llmkt.datasets import sharing
from recbole_llmkt.datasets.loading import load_data
from recbole_llmkt.datasets.sharing import share, shared_dataset
from recbole_llmkt.quick_start import train


@pytest.fixture(autouse=True)
def nothing_shared(monkeypatch):
    monkeypatch.setattr(sharing, "_shared", [])


@pytest.mark.parametrize("model", ["BPR", "SASRec", "MultiVAE", "EASE"])
def test_a_run_takes_over_what_it_would_have_read(tiny, model):
    keys = {"seed": 5, "epochs": 2, "kt_enabled": False}
    own = train(tiny.config(model, **keys), saved=False)
    share(tiny.config(model))
    config = tiny.config(model, **keys)
    dataset, train_data, *_ = load_data(config)
    assert not sharing._shared  # taken
    assert dataset.config is train_data._dataset.config is config
    share(tiny.config(model))
    taken = train(tiny.config(model, **keys), saved=False)
    assert not sharing._shared
    assert taken["test_result"] == own["test_result"]
    assert taken["best_valid_result"] == own["best_valid_result"]


def test_models_with_the_same_dataset_share_it(tiny):
    share(tiny.config("BPR"))
    share(tiny.config("LightGCN", learning_rate=0.5, checkpoint_dir="elsewhere"))
    assert len(sharing._shared) == 1
    assert shared_dataset(tiny.config("SASRec")) is None
    assert shared_dataset(tiny.config("NeuMF", train_batch_size=7)) is not None
    assert shared_dataset(tiny.config("NeuMF")) is None  # once


@pytest.mark.parametrize(
    "keys",
    [
        {"item_inter_num_interval": "[2,inf)"},
        {"eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}}},
        {"load_col": {"inter": ["user_id", "item_id"]}},
        {"normalize_all": False},
    ],
)
def test_other_settings_read_their_own(tiny, keys):
    share(tiny.config("BPR"))
    assert shared_dataset(tiny.config("BPR", **keys)) is None
    assert shared_dataset(tiny.config("BPR")) is not None


def test_changed_files_are_read_again(tiny):
    config = tiny.config("BPR")
    share(config)
    path = next(tiny.folder.rglob("*.inter"))
    path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    assert shared_dataset(config) is None


def test_a_random_split_is_not_shared(tiny):
    share(tiny.config("BPR", eval_args={"order": "RO"}))
    assert not sharing._shared


def test_nothing_is_downloaded_to_be_shared(tiny, monkeypatch):
    monkeypatch.setattr(sharing, "create_dataset", lambda *_: pytest.fail("would download"))
    share(tiny.config("BPR", data_path=str(tiny.data_path / "nowhere")))
    assert not sharing._shared


def test_large_files_are_not_shared(tiny, monkeypatch):
    monkeypatch.setattr(sharing, "_SHARE_OF_MEMORY", 0)
    share(tiny.config("BPR"))
    assert not sharing._shared


def test_the_log_has_what_reading_says(tiny, caplog):
    config = tiny.config("BPR")
    caplog.set_level(logging.DEBUG)
    load_data(config)
    expected = {record.getMessage() for record in caplog.records}
    share(config)
    caplog.clear()
    load_data(config)
    assert {record.getMessage() for record in caplog.records} == expected
    assert any("inter" in message for message in expected)


def test_no_random_number_is_drawn(tiny):
    share(tiny.config("BPR"))
    before = torch.get_rng_state()
    assert shared_dataset(tiny.config("BPR")) is not None
    assert torch.equal(torch.get_rng_state(), before)
