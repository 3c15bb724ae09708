"""Whole files, whole lines, locks."""

from __future__ import annotations

import os

import pytest

from recbole_llmkt.utils.exceptions import DataError, ProfileError
from recbole_llmkt.utils.files import drop_cut_line, exclusive, replace_file, whole_lines


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
