"""A stranger's checkpoint decides nothing: no import, no address, no key, no folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from recbole.data.dataset import Dataset

from recbole_llmkt.cli.main import main
from recbole_llmkt.compat import load_plain
from recbole_llmkt.experiment.tuning.refit import Chosen
from recbole_llmkt.quick_start import load_data_and_model
from recbole_llmkt.recommend.refresh import Refresh, refresh
from recbole_llmkt.training.export import export_stock_checkpoint
from recbole_llmkt.utils.exceptions import ConfigError, DataError
from tests.helpers import prepare


@pytest.fixture
def strangers(tiny):
    """Return a function that saves a checkpoint with some settings changed."""

    def save(**settings):
        run = prepare(tiny.config("BPR", epochs=2))
        run.fit(saved=True)
        checkpoint = load_plain(run.trainer.saved_model_file)
        checkpoint["config"].update(settings)
        torch.save(checkpoint, "strangers.pth")
        return "strangers.pth"

    return save


def test_a_class_path_is_not_imported(strangers, monkeypatch):
    file = strangers(model="helper.M")
    Path("helper.py").write_text("open('owned', 'w')\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    for load in (load_data_and_model, lambda path: export_stock_checkpoint(path, "out.pth")):
        with pytest.raises(ConfigError, match=r"'helper\.M' as its model.*--trust"):
            load(file)
    shown = CliRunner().invoke(main, ["recommend", f"--checkpoint={file}", "--users=u1"])
    assert shown.exit_code == 2 and "helper.M" in shown.output
    assert not Path("owned").exists() and "helper" not in sys.modules


def test_a_model_is_not_trained_with_another_loss_instead(strangers):
    file = strangers(kt_loss="helper.L")
    load_data_and_model(file)  # which needs no loss
    message = r"'strangers\.pth' names the class 'helper\.L' as its kt_loss.*--trust"
    with pytest.raises(ConfigError, match=message):
        Chosen.by_checkpoint(file)
    with pytest.raises(ConfigError, match=message):
        refresh(Refresh(file, Path("served")))
    assert Chosen.by_checkpoint(file, {"kt_loss": "mse"}).config["kt_loss"] == "mse"


def test_addresses_keys_and_folders_are_todays(strangers, caplog):
    file = strangers(
        profile_api_base="http://127.0.0.1:9/v1",
        profile_api_key_env="SECRET",
        profile_dir="elsewhere",
        profile_encoder="openai:embedder",
        profile_generator="helper.G",
        checkpoint_dir="planted",
        kt_loss="helper.L",
    )
    config = load_data_and_model(file)[0]
    assert config["profile_api_base"] is None and config["profile_dir"] is None
    assert config["profile_api_key_env"] == "OPENAI_API_KEY"
    assert config["profile_encoder"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert config["kt_loss"] == "rmse" and config["profile_generator"] == "template"
    assert not Path("planted").exists()
    assert "Ignored in 'strangers.pth': profile_dir, profile_encoder, profile_api_base" in (
        caplog.text
    )
    given = {"profile_dir": "mine", "profile_encoder": "wordllama"}
    config = load_data_and_model(file, given)[0]
    assert (config["profile_dir"], config["profile_encoder"]) == ("mine", "wordllama")
    assert load_data_and_model(file, trust=True)[0]["profile_dir"] == "elsewhere"


def test_no_other_settings_are_read(strangers):
    """A preset of the stranger's, which needs no ending, would set what the checkpoint may not."""
    Path("evil").write_text("profile_api_base: http://127.0.0.1:9/v1\nkt_loss: helper.L\n")
    config = load_data_and_model(strangers(kt_preset="evil"))[0]
    assert config["profile_api_base"] is None and config["kt_loss"] == "rmse"


def test_no_other_process_is_waited_for(strangers, monkeypatch):
    called = []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, **__: called.append(1))
    place = {"local_rank": 0, "nproc": 1, "world_size": 2, "offset": 0, "worker": 99}
    config = load_data_and_model(strangers(ip="192.0.2.1", port="5678", **place))[0]
    assert config["single_spec"] and config["worker"] == 0 and not called


def test_nothing_is_downloaded(strangers, monkeypatch):
    """RecBole knows addresses of datasets, and would put one where the checkpoint says."""
    downloaded = []
    monkeypatch.setattr(Dataset, "_download", lambda dataset: downloaded.append(dataset))
    file = strangers(dataset="ml-1m", data_path="planted")
    before = set(Path.cwd().rglob("*"))
    with pytest.raises(DataError, match=r"there is no folder planted/ml-1m.*--data_path=DIR"):
        load_data_and_model(file)
    assert not downloaded and set(Path.cwd().rglob("*")) == before


def test_a_refused_checkpoint_leaves_no_log(strangers):
    file = strangers(load_col={"inter": ["user_id", "item_id", "no_such_column"]})
    with pytest.raises(DataError, match="no_such_column"):
        load_data_and_model(file)
    assert not Path("log").exists()


def test_an_expression_is_not_evaluated(tiny):
    with pytest.raises(ConfigError, match="teacher"):
        tiny.config("KD_DAGFM", teacher="open('owned', 'w').close() or CrossNet")
    assert not Path("owned").exists()


def test_a_model_made_from_a_file_needs_that_of_today(strangers):
    message = r"names the file '/etc/passwd' as its mf_pretrain_path.*--mf_pretrain_path=FILE"
    with pytest.raises(ConfigError, match=message):
        load_data_and_model(strangers(model="NeuMF", mf_pretrain_path="/etc/passwd"))


def test_devices_and_unknown_keys_are_ignored(strangers):
    file = strangers(gpu_id="7", use_gpu=False, state="error", unheard_of="../x", show_progress=1)
    config = load_data_and_model(file)[0]
    assert config["gpu_id"] == "0" and config["use_gpu"] is True and config["state"] != "error"
    assert "unheard_of" not in config.final_config_dict
