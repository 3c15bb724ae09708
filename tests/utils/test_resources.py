"""The package's data: beside the package in a checkout, in it where it is installed."""

from __future__ import annotations

import pytest

from recbole_llmkt.utils import resources


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "site" / "package"
    (folder / "utils").mkdir(parents=True)
    monkeypatch.setattr(resources, "__file__", str(folder / "utils" / "resources.py"))
    return folder


def test_data_in_the_package_go_before_data_beside_it(package):
    beside = package.parent / "properties"
    beside.mkdir()
    assert resources.properties_dir() == beside
    (package / "properties").mkdir()
    assert resources.properties_dir() == package / "properties"


def test_a_dataset_without_bundled_data_has_a_folder_all_the_same(package):
    assert resources.bundled_dir("mine") == package.parent / "dataset" / "mine"
    assert not resources.bundled_dir("mine").exists()


def test_names_are_those_of_yaml_files_in_order(package):
    folder = package / "properties" / "model"
    folder.mkdir(parents=True)
    for name in ("NeuMF.yaml", "BPR.yaml", "notes.txt", "old.yaml.bak"):
        (folder / name).write_text("")
    assert resources.names("model") == ["BPR", "NeuMF"]
    assert resources.names("missing") == []
