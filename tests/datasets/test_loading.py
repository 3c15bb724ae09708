"""Datasets that are not there yet, and validation on a part of the users."""

from __future__ import annotations

import os
import sys
import time
import urllib.error

import numpy as np
import pytest
from recbole.data.dataloader import FullSortEvalDataLoader

from recbole_llmkt.config import Config
from recbole_llmkt.datasets import loading
from recbole_llmkt.datasets.loading import files_digest, load_data
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.runs.pool import make_absolute
from recbole_llmkt.profiles.generation import requests
from recbole_llmkt.profiles.generation.requests import RequestMaker
from recbole_llmkt.quick_start import train
from recbole_llmkt.utils.exceptions import DataError
from tests.helpers import prepare


@pytest.fixture
def created(monkeypatch):
    """Return the folders of the datasets that RecBole was asked to make."""
    asked = []
    monkeypatch.setattr(loading, "create_dataset", lambda config: asked.append(config["data_path"]))
    return asked


def test_a_dataset_that_recbole_can_download_is_downloaded_before_the_runs(tmp_path, created):
    known = Config("BPR", "ml-1m", config_dict={"data_path": str(tmp_path)}, command_line=[])
    loading.download(known)
    assert created == [str(tmp_path / "ml-1m")]
    (tmp_path / "ml-1m").mkdir()
    loading.download(known)
    unknown = Config("BPR", "mine", config_dict={"data_path": str(tmp_path)}, command_line=[])
    loading.download(unknown)
    assert len(created) == 1


def test_a_failed_download_names_the_folder(tmp_path, monkeypatch):
    def unreachable(config):
        raise urllib.error.URLError("name not known")

    monkeypatch.setattr(loading, "create_dataset", unreachable)
    known = Config("BPR", "ml-1m", config_dict={"data_path": str(tmp_path)}, command_line=[])
    with pytest.raises(DataError, match=r"'ml-1m' cannot be downloaded \(.*not known"):
        loading.download(known)


def test_a_run_says_that_its_data_cannot_be_downloaded(tmp_path, monkeypatch):
    def unreachable(url):
        raise urllib.error.URLError("name not known")

    monkeypatch.setattr("recbole.data.dataset.dataset.decide_download", unreachable)
    values = {"data_path": str(tmp_path), "kt_enabled": False}
    config = Config("BPR", "ml-1m", config_dict=values, command_line=[])
    with pytest.raises(DataError, match=r"'ml-1m' cannot be downloaded \(.*not known"):
        loading.load_data(config)


def test_a_run_looks_for_its_data_where_the_comparison_was_started(tmp_path, monkeypatch):
    keys = {"data_path": "later", "kt_enabled": False}
    (run,) = Plan(["BPR"], ["base"], [1], "ml-1m", overrides=keys).runs()
    config = run.config()
    here = tmp_path / "cwd"
    make_absolute(config)
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


LABELLED = {
    "threshold": {"rating": 4},
    "train_neg_sample_args": None,
    "metrics": ["AUC"],
    "valid_metric": "AUC",
    "eval_args": {"split": {"RS": [0.7, 0.1, 0.2]}, "order": "RO", "mode": "labeled"},
}


def users_of(loader):
    return set(loader._dataset.inter_feat[loader._dataset.uid_field].tolist())


UNSAMPLED = {"train_neg_sample_args": None}


@pytest.mark.parametrize(
    ("model", "keys"),
    [("BPR", {}), ("SASRec", UNSAMPLED), ("MultiVAE", UNSAMPLED), ("FM", LABELLED)],
)
def test_validation_on_a_sample_of_users(tiny, model, keys):
    whole, again = (
        prepare(tiny.config(model, kt_enabled=False, seed=seed, **keys)) for seed in (1, 1)
    )
    sampled = loading.sample_users(again.valid_data, 7)
    assert type(sampled) is type(whole.valid_data)
    assert len(users_of(sampled)) == 7 and users_of(sampled) < users_of(whole.valid_data)
    for name in ("uid2positive_item", "uid2history_item"):
        if hasattr(sampled, name):
            for user in users_of(sampled):
                expected = getattr(whole.valid_data, name)[user]
                assert np.array_equal(getattr(sampled, name)[user], expected)
    assert users_of(again.valid_data) == users_of(whole.valid_data)
    result = again.trainer.evaluate(sampled, load_best_model=False)
    assert result != whole.trainer.evaluate(whole.valid_data, load_best_model=False)


def test_every_seed_validates_on_the_same_users(tiny):
    samples = [
        users_of(loading.sample_users(prepare(tiny.config(seed=seed)).valid_data, 9))
        for seed in (1, 2)
    ]
    assert samples[0] == samples[1]


def test_a_sample_as_large_as_the_part_is_the_part(tiny):
    part = prepare(tiny.config()).valid_data
    assert loading.sample_users(part, 30) is part and loading.sample_users(part, None) is part
    assert loading.sample_users(None, 5) is None


def test_a_run_is_validated_on_the_sample_and_tested_on_all(tiny):
    keys = {"epochs": 2, "kt_enabled": False, "metric_decimal_place": 10}
    whole, sampled = (
        train(tiny.config(**keys, kt_valid_users=users), saved=False) for users in (None, 5)
    )
    assert sampled["best_valid_result"] != whole["best_valid_result"]
    assert sampled["test_result"] == whole["test_result"]


def test_two_runs_may_start_their_logs_at_once(tiny, monkeypatch):
    """Another process makes each folder just after this one has seen that it is not there."""
    config, exists = tiny.config(epochs=1, kt_enabled=False), os.path.exists

    def looked_for(path):
        is_there = exists(path)
        if not is_there and sys._getframe(1).f_code.co_name == "ensure_dir":
            os.makedirs(path)
        return is_there

    monkeypatch.setattr(os.path, "exists", looked_for)
    assert train(config, saved=True)["test_result"]


def test_digests_see_a_rating_in_the_middle_of_a_large_file(tmp_path):
    path = tmp_path / "shop.inter"
    content = bytearray(b"u1\ti1\t5\n" * 2**19)  # 4 MB
    path.write_bytes(content)
    before, partial = files_digest(tmp_path, "shop"), files_digest(tmp_path, "shop", "0" * 16)
    content[2**21 + 6] = ord("1")
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))  # another time than before, whatever the clock's resolution
    assert files_digest(tmp_path, "shop") != before
    assert files_digest(tmp_path, "shop", "0" * 16) == partial  # an earlier version's


def test_a_file_whose_time_was_set_back_is_read_again(tmp_path):
    path = tmp_path / "shop.inter"
    path.write_bytes(b"u1\ti1\t5\n")
    before, state = files_digest(tmp_path, "shop"), path.stat()
    time.sleep(0.02)  # longer than the clock of the file system takes for a step
    with path.open("r+b") as file:
        file.write(b"u1\ti1\t1\n")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_mtime_ns == state.st_mtime_ns
    assert files_digest(tmp_path, "shop") != before


def test_a_file_that_took_anothers_place_is_read_again(tmp_path):
    path, other = tmp_path / "shop.inter", tmp_path / "other"
    path.write_bytes(b"u1\ti1\t5\n")
    other.write_bytes(b"u1\ti1\t1\n")
    os.utime(path, ns=(1, 1))
    os.utime(other, ns=(1, 1))
    before = files_digest(tmp_path, "shop")
    assert files_digest(tmp_path, "shop") == before
    os.replace(other, path)  # same size, same time, another inode
    assert files_digest(tmp_path, "shop") != before
    assert not list(tmp_path.glob("*digest*"))


def test_without_an_evaluation_nothing_is_prepared_for_it(tiny, monkeypatch):
    whole = load_data(tiny.config(kt_enabled=False))
    monkeypatch.setattr(FullSortEvalDataLoader, "__init__", pytest.fail)
    held = load_data(tiny.config(kt_enabled=False), to_evaluate=False)
    for loader, other in zip(whole[1:], held[1:]):
        assert pairs_of(loader) == pairs_of(other) != []


def pairs_of(loader):
    features = loader._dataset.inter_feat
    return sorted(zip(features["user_id"].tolist(), features["item_id"].tolist()))
