from __future__ import annotations

import os

import pytest

from recbole_llmkt.cli.options import both, existing_stores, make_config, names, split_words
from recbole_llmkt.utils.exceptions import ConfigError, ProfileError
from tests.helpers import write_profiles


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("a, b ,c", ["a", "b", "c"]), ("a,,b,", ["a", "b"]), (" , ", []), (None, [])],
)
def test_names_are_separated_by_commas(value, wanted):
    assert names(None, None, value) == wanted


def test_quoted_words_are_whole():
    text = """a.yaml 'my file.yaml' --arm="umap: kt_transform=umap" """
    assert split_words(text, "x") == ["a.yaml", "my file.yaml", "--arm=umap: kt_transform=umap"]


def test_a_quote_without_end_says_where():
    with pytest.raises(ConfigError, match=r"^--config-files: cannot read \[don't\.yaml\] \("):
        split_words("don't.yaml", "--config-files")


def test_both_entities_need_one_store_alone(tmp_path):
    config = {"profile_dir": str(tmp_path), "dataset": "tiny"}
    write_profiles(tmp_path, "item", {"i1": [1.0, 0.0]}, {})
    assert both("both") == ("user", "item")
    assert [store.entity for store in existing_stores(config, "both")] == ["item"]
    with pytest.raises(ProfileError, match="There are no user profiles of dataset 'tiny'"):
        existing_stores(config, "user")


def test_a_datasets_own_settings_that_are_left_out_are_named(make_dataset, caplog):
    folder = make_dataset().data_path
    keys = [f"--data_path={folder}"]
    make_config("tiny", "BPR", [], keys)
    assert not caplog.records
    own = folder / "tiny" / "tiny.yaml"
    own.write_text("seq_separator: '|'\n")
    make_config("tiny", "BPR", [os.path.relpath(own)], keys)
    assert not caplog.records
    make_config("tiny", "BPR", [], keys)
    assert f"add --config-files={os.path.relpath(own)}." in caplog.text


def test_a_command_reads_its_own_keys_alone(make_dataset, monkeypatch):
    monkeypatch.setattr("sys.argv", ["llmkt", "--epochs=99"])
    folder = make_dataset().data_path
    config = make_config("tiny", "BPR", "", [f"--data_path={folder}", "--epochs=3"])
    assert (config["model"], config["epochs"]) == ("BPR", 3)
    assert config["data_path"] == str(folder / "tiny")
