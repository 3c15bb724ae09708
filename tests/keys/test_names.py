"""Misspelled keys are errors; others that nothing reads are warned of where it is seen."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
import recbole
from recbole.model.general_recommender import BPR

from recbole_llmkt.config import Config
from recbole_llmkt.keys.names import known_names
from recbole_llmkt.quick_start import train
from recbole_llmkt.utils.exceptions import ConfigError


class MyBPR(BPR):
    """A model with a key of its own, near one of RecBole's."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.rate = config["learning_rates"]


def config(model="BPR", files=None, command=(), **values):
    return Config(model, "ml-100k", files, values, command_line=list(command))


def test_every_key_that_recboles_code_reads_is_known():
    source = Path(recbole.__file__).parent
    pattern = re.compile(r"""config\[["']([\w-]+)["']\]""")
    read = {key for path in source.rglob("*.py") for key in pattern.findall(path.read_text())}
    assert len(read) > 300
    assert read - {"device", "single_spec"} <= known_names()  # RecBole itself sets these two


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("learing_rate", "learning_rate"),
        ("LEARNING_RATE", "learning_rate"),
        ("train_batchsize", "train_batch_size"),
        ("top_k", "topk"),
        ("batch_size", "train_batch_size"),
        ("lr", "learning_rate"),
        ("leave_one_num", "eval_args.*LS"),
        ("neg_sampling", "train_neg_sample_args"),
        ("device", "gpu_id .* or profile_device"),
        ("embeding_size", "embedding_size"),
        ("user_inter_num_intervall", "user_inter_num_interval"),
    ],
)
def test_a_misspelled_key_is_an_error_wherever_it_stands(key, meant, tmp_path):
    message = rf"Unknown key '{key}'\. Did you mean '?{meant}.*kt_strict_keys: False"
    file = tmp_path / "f.yaml"
    file.write_text(f"{key}: 1\n")
    with pytest.raises(ConfigError, match=message):
        config(**{key: 1})
    with pytest.raises(ConfigError, match=message):
        config(files=[str(file)])
    with pytest.raises(ConfigError, match=message):
        config(command=[f"--{key}=1"])
    with pytest.raises(ConfigError, match=message):
        config(kt_preset=str(file))


def test_a_switch_lets_it_through():
    lax = config(learing_rate=0.3, kt_strict_keys=False)
    assert lax.unknown_keys == ["learing_rate"] and lax["learing_rate"] == 0.3
    again = Config(config_dict=lax.plain(), command_line=[])
    assert again.unknown_keys == ["learing_rate"]


def test_a_key_that_an_own_model_reads_is_its_own():
    assert config(MyBPR, learning_rates=3).unknown_keys == []
    with pytest.raises(ConfigError, match="Unknown key 'learning_rates'"):
        config("BPR", learning_rates=3)


def test_a_key_of_another_model_is_told_apart_by_where_it_stands(tmp_path):
    file = tmp_path / "f.yaml"
    file.write_text("n_layers: 2\n")  # for the LightGCN that shares the file
    assert config(files=[str(file)]).unknown_keys == []
    assert config(n_layers=2).unknown_keys == ["n_layers"]
    assert config("LightGCN", n_layers=2).unknown_keys == []


def test_the_warning_comes_after_the_settings(tiny, caplog):
    """Above 180 lines of settings nobody reads it."""
    caplog.set_level(logging.INFO)
    train(tiny.config(kt_enabled=False, epochs=1, zebra=1), saved=False)
    texts = [record.getMessage() for record in caplog.records]
    warning = texts.index("BPR does not read the key 'zebra'.")
    assert caplog.records[warning].levelno == logging.WARNING
    for above in ("Hyper Parameters", "Trainable parameters"):
        assert warning > max(place for place, text in enumerate(texts) if above in text)
