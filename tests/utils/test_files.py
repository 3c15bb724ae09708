"""Whole files, whole lines, locks."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from recbole_llmkt.compat.pickles import load_plain
from recbole_llmkt.utils import files
from recbole_llmkt.utils.arrays import read_arrays
from recbole_llmkt.utils.exceptions import ConfigError, DataError, ProfileError, StorageError
from recbole_llmkt.utils.files import (
    append_whole,
    drop_cut_line,
    exclusive,
    remove_leftovers,
    replace_file,
    replacing,
    whole_lines,
)
from recbole_llmkt.utils.jsonl import read_object, read_objects
from recbole_llmkt.utils.parsing import load_yaml
from tests.helpers import limited_files


@pytest.mark.parametrize(
    ("content", "whole", "rest"),
    [
        (b"", b"", b""),
        (b'{"id": 1}\n', b'{"id": 1}\n', b""),
        (b'{"id": 1}\n2', b'{"id": 1}\n', b"2"),  # 2 may be the start of 25, an object is whole
        (b'{"id": 1}\n[2]', b'{"id": 1}\n', b"[2]"),
        (b'{"id": "\xc3', b"", b'{"id": "\xc3'),
        (b"[" * 100_000, b"", b"[" * 100_000),
    ],
    ids=["empty", "whole", "number", "list", "cut character", "nested"],
)
def test_whole_lines_and_the_rest(content, whole, rest):
    assert whole_lines(content) == (whole, rest)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"id": 1}\n{"id": ', b'{"id": 1}\n'),
        (b'{"id": 1}\n{"id": 2}', b'{"id": 1}\n{"id": 2}\n'),
        (b'{"id": 1}\n', b'{"id": 1}\n'),
    ],
    ids=["cut off", "no line break", "whole"],
)
def test_the_next_object_starts_a_line(tmp_path, before, after):
    path = tmp_path / "file.jsonl"
    path.write_bytes(before)
    drop_cut_line(path)
    assert path.read_bytes() == after
    drop_cut_line(tmp_path / "missing.jsonl")
    assert not (tmp_path / "missing.jsonl").exists()


def test_a_file_that_cannot_be_replaced_stays_and_leaves_no_other(tmp_path, monkeypatch):
    path = tmp_path / "file"
    replace_file(path, b"old")

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.glob("*file*")] + list(tmp_path.glob(".*")) == ["file"]


def test_a_lock_is_refused_while_held_and_free_after_an_error(tmp_path):
    path = tmp_path / "folder" / ".lock"
    with pytest.raises(ZeroDivisionError), exclusive(path):
        with (
            pytest.raises(DataError, match=r"writing in .*folder \(it holds \.lock\).*--output"),
            exclusive(path, error_class=DataError, option="--output"),
        ):
            pass
        raise ZeroDivisionError
    with exclusive(path):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ProfileError, match=r"Cannot write in .*file: .*with profile_dir\."),
        exclusive(tmp_path / "file" / ".lock"),
    ):
        pass


# ---- disks that are full, and places that cannot be written --------------------------------------


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def test_a_full_disk_is_named_and_leaves_the_old_file_alone(folder):
    path = folder / "file"
    replace_file(path, b"old")
    with limited_files() as limit:
        limit(1000)
        with pytest.raises(StorageError, match=rf"Cannot write in {folder}: .*Free some.*with --o"):
            replace_file(path, b"x" * 2000, "--output")
        with pytest.raises(StorageError, match=r"Free some space there, or work in another folder"):
            replace_file(path, b"x" * 2000)
        with pytest.raises(StorageError, match="File too large"), replacing(path) as file:
            torch.save({"table": torch.zeros(1000)}, file)  # torch shows an error of its own
    assert path.read_bytes() == b"old" and list(folder.iterdir()) == [path]


def test_what_fails_for_another_reason_is_not_called_a_full_disk(folder):
    with pytest.raises(ZeroDivisionError):
        try:
            raise FileNotFoundError
        except FileNotFoundError:
            with replacing(folder / "file"):
                raise ZeroDivisionError from None
    assert not list(folder.iterdir())


def test_a_line_is_added_whole_or_not_at_all(tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b"old\n")
    with path.open("ab", buffering=0) as file, limited_files() as limit:
        limit(10)
        with pytest.raises(StorageError, match="Free some space"):
            append_whole(file, b"a longer line\n")
        append_whole(file, b"new\n")
    assert path.read_bytes() == b"old\nnew\n"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/folder: .*can be written with checkpoint_dir\.$"):
        replace_file(tmp_path / "file" / "folder" / "new", b"", "checkpoint_dir")


def test_what_a_killed_process_left_goes_and_what_another_is_writing_stays(folder):
    leftover = folder / ".file.0123abcd.partial"
    leftover.write_bytes(b"half")
    with replacing(folder / "first") as file:
        assert not leftover.exists()
        file.write(b"1")
        replace_file(folder / "second", b"2")
        remove_leftovers(folder)
        assert len(list(folder.glob(".*.partial"))) == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "first": b"1",
        "second": b"2",
    }


def test_a_writer_whose_file_was_taken_for_a_leftover_makes_another(folder, monkeypatch):
    names = iter(["a" * 8, "b" * 8])
    monkeypatch.setattr(files.uuid, "uuid4", lambda: SimpleNamespace(hex=next(names)))
    lock = files._locked

    def late(file, wait):
        Path(folder / f".file.{'a' * 8}.partial").unlink(missing_ok=True)
        return lock(file, wait)

    monkeypatch.setattr(files, "_locked", late)
    replace_file(folder / "file", b"whole")
    assert (folder / "file").read_bytes() == b"whole" and len(list(folder.iterdir())) == 1


@pytest.mark.skipif(os.name == "nt", reason="it has no named pipes")
@pytest.mark.parametrize("odd", ["pipe", "device", "folder", "link", "dangling"])
def test_what_leads_elsewhere_is_not_written_to(tmp_path, odd):
    path, other = tmp_path / "user.jsonl", tmp_path / "other"
    other.write_text("kept")
    make = {
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
        "link": lambda: path.symlink_to(other),
        "dangling": lambda: path.symlink_to(tmp_path / "new"),
    }
    make[odd]()
    with pytest.raises(StorageError, match=r"user\.jsonl: it is a link, or no regular file"):
        drop_cut_line(path)
    assert other.read_text() == "kept" and not (tmp_path / "new").exists()


@pytest.mark.skipif(os.name == "nt", reason="it has no such devices")
def test_what_has_no_end_is_not_read(tmp_path):
    pipe, device = tmp_path / "pipe", tmp_path / "device"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    for path in (pipe, device):
        with pytest.raises(DataError, match=r"(?i)no regular file"):
            list(read_objects(path, "Remove it."))
        with pytest.raises(DataError, match=r"(?i)no regular file"):
            read_object(path, "Remove it.")
        with pytest.raises(DataError, match=r"(?i)no regular file"):
            read_arrays(path, "Remove it.")
        with pytest.raises(OSError, match=r"(?i)no regular file"):
            load_plain(path)
    with pytest.raises(ConfigError, match="longer than 10,000,000 characters"):
        load_yaml(device)
