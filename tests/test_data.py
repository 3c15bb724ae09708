"""Datasets that are not there yet."""

from __future__ import annotations

import pytest

from recbole_llmkt import data
from recbole_llmkt.config import Config
from recbole_llmkt.experiment.plan import Plan
from recbole_llmkt.experiment.pool import _make_absolute
from recbole_llmkt.profiles import requests
from recbole_llmkt.profiles.requests import RequestMaker


@pytest.fixture
def created(monkeypatch):
    """Return the folders of the datasets that RecBole was asked to make."""
    asked = []
    monkeypatch.setattr(data, "create_dataset", lambda config: asked.append(config["data_path"]))
    return asked


def test_a_dataset_that_recbole_can_download_is_downloaded_before_the_runs(tmp_path, created):
    known = Config("BPR", "ml-1m", config_dict={"data_path": str(tmp_path)}, command_line=[])
    data.download(known)
    assert created == [str(tmp_path / "ml-1m")]
    (tmp_path / "ml-1m").mkdir()
    data.download(known)
    unknown = Config("BPR", "mine", config_dict={"data_path": str(tmp_path)}, command_line=[])
    data.download(unknown)
    assert len(created) == 1


def test_a_run_looks_for_its_data_where_the_comparison_was_started(tmp_path, monkeypatch):
    keys = {"data_path": "later", "kt_enabled": False}
    (run,) = Plan(["BPR"], ["base"], [1], "ml-1m", overrides=keys).runs()
    config = run.config()
    here = tmp_path / "cwd"
    _make_absolute(config)
    assert config["data_path"] == str(here / "later" / "ml-1m")
    assert config["profile_encoder"] == run.given["profile_encoder"]  # a name, no path here


def test_profiles_ask_for_the_interactions_before_they_read_the_metadata(tiny, monkeypatch):
    split, path = requests.training_split, tiny.folder / "tiny.item"

    def downloading(config):
        path.write_text("item_id:token\tmovie_title:token_seq\ni1\tHeat\n")
        return split(config)

    monkeypatch.setattr(requests, "training_split", downloading)
    config = tiny.config(profile_title_field="movie_title", profile_generator="template")
    assert list(RequestMaker(config, "item").digests) == ["i1"]
