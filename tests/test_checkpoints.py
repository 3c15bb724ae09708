"""Checkpoints: written whole, read without trust, and joined to models and data that fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recbole_llmkt.checkpoints import (
    counters,
    load_checkpoint,
    load_weights,
    save_file,
    saved_settings,
    saved_vocabulary,
)
from recbole_llmkt.utils.exceptions import ConfigError, DataError

STATE = {"config": {"model": "BPR"}, "state_dict": {"w": torch.ones(2)}, "transfer": {}}


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "new" / "model.pth"
    save_file(STATE, str(path))

    def fail(state, target):
        target.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_file({"config": {}}, str(path))
    assert [entry.name for entry in path.parent.iterdir()] == ["model.pth"]
    read = load_checkpoint(str(path))
    assert read["config"] == {"model": "BPR"}
    assert torch.equal(read["state_dict"]["w"], torch.ones(2))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {}, "config": {}}, "is not a checkpoint of recbole_llmkt"),
        ([1, 2], "is not a checkpoint of recbole_llmkt"),
        (b"PK\x03\x04 cut off", "Cannot read the checkpoint"),
        (b"text", "Cannot read the checkpoint"),
        (None, "Cannot read the checkpoint.*No such file"),
    ],
    ids=["stock", "list", "cut off", "text", "missing"],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "model.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(DataError, match=message) as refusal:
        load_checkpoint(str(path))
    assert "\n" not in str(refusal.value)


SAVED = {
    "model": "BPR",
    "embedding_size": 8,
    "data_path": "dataset/tiny",
    "checkpoint_dir": "elsewhere",
    "profile_dir": "of/a/stranger",
    "profile_encoder": "of/a/stranger",
    "profile_api_base": None,
    "kt_loss": "package.module.Loss",
    "kt_layer": "item_embedding.weight",
    "kt_weight": 0.3,
}


def test_a_strangers_file_decides_neither_code_nor_servers_nor_folders(caplog):
    settings = saved_settings({"config": SAVED}, "model.pth", {"embedding_size": 16})
    assert settings == {
        "model": "BPR",
        "embedding_size": 16,
        "data_path": "dataset/tiny",
        "kt_layer": "item_embedding.weight",
        "kt_weight": 0.3,
    }
    (message,) = caplog.messages
    assert message.startswith("Ignored in 'model.pth': profile_dir, profile_encoder. ")


def test_a_trusted_file_decides_what_today_does_not():
    settings = saved_settings({"config": SAVED}, "model.pth", {"kt_weight": 0.5}, trust=True)
    assert settings == {**SAVED, "kt_weight": 0.5}
    offline = {"profile_encoder": "wordllama"}  # its weights are this machine's own
    assert saved_settings({"config": offline}, "model.pth", {}) == offline


def test_a_class_path_as_model_needs_trust_or_a_model_of_today():
    saved = {"config": {"model": "package.module.Model"}}
    with pytest.raises(ConfigError, match=r"'model\.pth' names the class .*--trust"):
        saved_settings(saved, "model.pth", {})
    assert saved_settings(saved, "model.pth", {"model": "a.b.C"}) == {"model": "a.b.C"}
    trusted = saved_settings(saved, "model.pth", {}, trust=True)
    assert trusted == {"model": "package.module.Model"}


def test_weights_of_another_size_are_refused():
    checkpoint = {"state_dict": nn.Linear(3, 2).state_dict()}
    with pytest.raises(DataError, match=r"'model\.pth' does not fit this Linear: .*size"):
        load_weights(nn.Linear(2, 2), checkpoint, "model.pth")


def test_a_checkpoint_without_ids_is_refused():
    with pytest.raises(DataError, match="does not say which row belongs to which user"):
        saved_vocabulary({"transfer": {}}, "model.pth")


def test_counters_are_the_numbers_that_training_moved():
    model = nn.Sequential(nn.Dropout(0.25), nn.Linear(2, 2))
    model.update = 0
    model.is_ready = True
    before = counters(model)
    assert before[""] == {"update": 0}
    assert before["0"] == {"p": 0.25}
    model.update = 5
    model[1].anneal = 0.5
    assert counters(model, before) == {"": {"update": 5}, "1": {"anneal": 0.5}}
