"""Files and configuration, all or none."""

from __future__ import annotations

import errno

import pandas as pd
import pytest

from recbole_llmkt.datasets.importing import writing
from recbole_llmkt.datasets.importing.columns import Columns
from recbole_llmkt.datasets.importing.writing import check_target, write_dataset
from recbole_llmkt.utils.exceptions import DataError, StorageError
from recbole_llmkt.utils.parsing import load_yaml


def table(types, **columns):
    return Columns(pd.DataFrame(columns, dtype=object), types)


INTER = table(
    {"user_id": "token", "item_id": "token", "qty": "float", "order_no": "float"},
    user_id=["a b", "\u00a0c"],
    item_id=['the "x"', "y"],
    qty=["2", ""],
    order_no=["1", "2"],
)
ITEM = table(
    {"item_id": "token", "category": "token_seq"},
    item_id=["y"],
    category=[("a|b", "c d")],
)


def test_files_and_configuration(tmp_path):
    tables = {"inter": INTER, "item": ITEM}
    path = write_dataset(tmp_path / "d" / "mine", "mine", tables, "shop", "llmkt import x")
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "mine.inter",
        "mine.item",
        "mine.yaml",
    ]
    assert [file.name for file in (tmp_path / "d").iterdir()] == ["mine"]
    assert (path.parent / "mine.inter").read_text().splitlines()[:2] == [
        "user_id:token\titem_id:token\tqty:float\torder_no:float",
        'a b\t"the ""x"""\t2\t1',
    ]
    assert (path.parent / "mine.item").read_text().splitlines()[1] == "y\ta|b;c d"
    settings = load_yaml(path)
    assert settings["data_path"] == str(tmp_path / "d") and settings["seq_separator"] == ";"
    assert settings["load_col"] == {"inter": ["user_id", "item_id", "qty"]}
    assert settings["eval_args"]["order"] == "RO" and "TIME_FIELD" not in settings
    assert (
        settings["profile_category_field"] == "category" and "profile_title_field" not in settings
    )


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    folder = tmp_path / "d" / "mine"
    write_dataset(folder, "mine", {"inter": INTER}, "shop", "first")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(writing, "_configuration", fail)
    with pytest.raises(OSError, match="disk full"):
        write_dataset(folder, "mine", {"inter": ITEM}, "shop", "second")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing, "_configuration", lambda *_: "text")
    monkeypatch.setattr(writing, "_write_table", full)
    with pytest.raises(StorageError, match=r"No space left on device\. Free some.*--output"):
        write_dataset(tmp_path / "shop", "shop", {"inter": INTER}, "shop", "llmkt import")
    assert not (tmp_path / "shop").exists()


def test_what_else_is_in_the_folder_stays(tmp_path):
    folder = tmp_path / "mine"
    (folder / "profiles").mkdir(parents=True)
    write_dataset(folder, "mine", {"inter": INTER}, "shop", "c")
    assert (folder / "profiles").is_dir()


@pytest.mark.parametrize("name", ["ml-100k", "ml-1m"])
def test_names_with_settings_of_their_own(tmp_path, name):
    with pytest.raises(DataError, match="choose another name"):
        check_target(tmp_path, name, {"inter"}, False)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b"])
def test_names_that_are_none(tmp_path, name):
    with pytest.raises(DataError, match="a dataset's name"):
        check_target(tmp_path, name, {"inter"}, False)


def test_files_that_are_there(tmp_path):
    check_target(tmp_path, "mine", {"inter", "yaml"}, False)
    (tmp_path / "mine.inter").touch()
    with pytest.raises(DataError, match=r"mine\.inter already.*--overwrite"):
        check_target(tmp_path, "mine", {"inter", "yaml"}, False)
    check_target(tmp_path, "mine", {"inter", "yaml"}, True)
    (tmp_path / "mine.item").touch()
    with pytest.raises(DataError, match="earlier import: give --items=FILE"):
        check_target(tmp_path, "mine", {"inter", "yaml"}, True)
