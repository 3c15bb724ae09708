"""No pickle is read: whatever a file of somebody else's holds, it is not executed."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_llmkt.compat import load_plain, pickles_refused
from recbole_llmkt.config import Config
from recbole_llmkt.datasets.splits import build_splits
from recbole_llmkt.quick_start import load_data_and_model
from recbole_llmkt.utils.exceptions import ConfigError, DataError
from tests.helpers import prepare

CACHES = ("tiny-Dataset.pth", "tiny-for-BPR-dataloader.pth")


class Evil:
    def __reduce__(self):
        return (open, ("owned", "w"))


def plant(path):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        pickle.dump(Evil(), file)


def test_the_planted_file_would_run():
    plant("evil.pth")
    with open("evil.pth", "rb") as file:
        pickle.load(file).close()
    assert Path("owned").exists()


def test_caches_beside_the_checkpoints_are_not_read(tiny, caplog):
    for name in CACHES:
        plant(f"saved/{name}")
    config = tiny.config("BPR", epochs=2)
    run = prepare(config)
    run.fit(saved=True)
    build_splits(config)
    load_data_and_model(run.trainer.saved_model_file)
    assert not Path("owned").exists()
    for name in CACHES:
        assert f"{name} is not read" in caplog.text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset_save_path", "evil.pth"),
        ("dataloaders_save_path", "evil.pth"),
        ("save_dataset", True),
        ("save_dataloaders", True),
    ],
)
def test_keys_of_caches_are_refused(tiny, key, value):
    plant("evil.pth")
    with pytest.raises(ConfigError, match=f"{key}.*pickles"):
        tiny.config("BPR", **{key: value})
    assert not Path("owned").exists()


def test_a_checkpoint_that_names_a_cache_is_refused(tiny):
    plant("evil.pth")
    run = prepare(tiny.config("BPR", epochs=2))
    run.fit(saved=True)
    checkpoint = load_plain(run.trainer.saved_model_file)
    checkpoint["config"]["dataset_save_path"] = "evil.pth"
    torch.save(checkpoint, "strangers.pth")
    with pytest.raises(ConfigError, match="dataset_save_path"):
        load_data_and_model("strangers.pth")
    assert not Path("owned").exists()


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("RaCT", {"train_stage": "finetune", "pre_model_path": "evil.pth"}),
        ("NeuMF", {"use_pretrain": True, "mf_pretrain_path": "evil.pth"}),
        ("ConvNCF", {"train_method": "after_pretrain", "pre_model_path": "evil.pth"}),
        ("KD_DAGFM", {"phase": "finetuning", "warm_up": "evil.pth", "threshold": {"rating": 4}}),
    ],
)
@pytest.mark.parametrize("save", [plant, lambda path: torch.save({"state_dict": Evil()}, path)])
def test_weights_of_an_earlier_training_are_tensors(tiny, model, keys, save):
    save("evil.pth")
    with pytest.raises(DataError, match=r"evil\.pth"):
        prepare(tiny.config(model, kt_enabled=False, **keys))
    assert not Path("owned").exists()


def test_arrays_hold_numbers():
    np.save("objects.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    np.save("numbers.npy", np.arange(3))
    with pickles_refused():
        with pytest.raises(DataError, match=r"objects\.npy"):
            np.load("objects.npy", allow_pickle=True)
        assert np.load("numbers.npy", allow_pickle=True).tolist() == [0, 1, 2]
    assert not Path("owned").exists()


def test_the_functions_are_put_back():
    before = (np.load, torch.load, pickle.load)
    with pytest.raises(RuntimeError), pickles_refused():
        raise RuntimeError
    assert (np.load, torch.load, pickle.load) == before


def test_old_formats_of_torch_are_refused():
    torch.save({"config": {}}, "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(DataError, match="zip format"):
        load_plain("old.pth")


def test_a_program_of_torchscript_is_refused(recwarn):
    torch.save({"config": {}}, "program.pth")
    with zipfile.ZipFile("program.pth", "a") as archive:
        archive.writestr("program/constants.pkl", pickle.dumps(Evil()))
    with pytest.raises(DataError, match=r"'program\.pth': it is not a file of torch\.save"):
        load_plain("program.pth")
    assert not Path("owned").exists() and not recwarn


def test_a_plain_configuration_may_leave_caches_out(tiny):
    config = tiny.config("BPR", save_dataset=False, dataset_save_path=None)
    assert isinstance(config, Config)
