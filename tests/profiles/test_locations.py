"""Where profiles and their vectors lie."""

from __future__ import annotations

import pytest

from recbole_llmkt.profiles.locations import (
    bundled_folder,
    embedding_home,
    own_folder,
    own_store,
    profile_folder,
)
from recbole_llmkt.utils import resources
from recbole_llmkt.utils.exceptions import ProfileError
from tests.helpers import write_profiles


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "bundled_dir", lambda dataset: tmp_path / "bundled" / dataset)
    return {"profile_dir": None, "data_path": str(tmp_path / "data" / "tiny"), "dataset": "tiny"}


def write(folder, entity="user"):
    write_profiles(folder, entity, {"1": [1.0]}, {})


def test_profiles_beside_the_data_go_before_bundled_ones(config):
    write(bundled_folder(config))
    assert profile_folder(config) == bundled_folder(config)
    write(own_folder(config), "item")
    assert profile_folder(config) == own_folder(config)
    assert profile_folder(config, "user") == bundled_folder(config)


def test_a_named_folder_is_the_only_one(config, tmp_path):
    write(own_folder(config))
    config["profile_dir"] = str(tmp_path / "mine")
    with pytest.raises(ProfileError, match=r"in \S*mine\. Write them with `llmkt profile"):
        profile_folder(config)
    write(tmp_path / "mine")
    assert profile_folder(config) == tmp_path / "mine"


def test_bundled_profiles_are_not_replaced_unless_a_folder_is_named(config, tmp_path):
    write(bundled_folder(config))
    with pytest.raises(ProfileError, match=r"come with the package\. To change them, copy"):
        own_store(config, "user")
    assert own_store(config, "item").folder == own_folder(config)
    config["profile_dir"] = str(tmp_path / "mine")
    assert own_store(config, "user").folder == tmp_path / "mine"


def test_vectors_of_bundled_profiles_go_to_the_cache(config, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundled = bundled_folder(config)
    bundled.mkdir(parents=True)
    home = embedding_home(bundled)
    assert home.parent == tmp_path / "cache" / "recbole_llmkt"
    assert home.name.startswith("tiny-")
    other = tmp_path / "elsewhere" / "tiny" / "profiles"
    other.mkdir(parents=True)
    assert embedding_home(other) == other
