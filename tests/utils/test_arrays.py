"""Files of named arrays: nothing is unpickled, and what is read is checked."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_llmkt.utils.arrays import check_array, read_arrays, write_arrays
from recbole_llmkt.utils.exceptions import DataError


def test_arrays_come_back_with_their_types_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "new" / "file.npz"
    written = {"user points": np.float32([[1.5, -2.0]]), "names": np.array(["Café", ""])}
    write_arrays(path, written)
    read = read_arrays(path, "")
    assert {name: array.dtype for name, array in read.items()} == {
        name: array.dtype for name, array in written.items()
    }
    assert read["user points"].tolist() == [[1.5, -2.0]]
    assert read["names"].tolist() == ["Café", ""]
    assert [entry.name for entry in path.parent.iterdir()] == ["file.npz"]


def _pickled(path):
    np.savez(path, objects=np.array([{"a": 1}], dtype=object))


def _single(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(2))


def _cut(path):
    np.savez(path, values=np.zeros(100))
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize("damage", [_pickled, _single, _cut])
def test_other_files_are_refused_with_the_fix(tmp_path, damage):
    path = tmp_path / "file.npz"
    damage(path)
    with pytest.raises(DataError, match=r"file\.npz: not readable \(.*Delete it\."):
        read_arrays(path, "Delete it.")


@pytest.mark.parametrize(
    ("name", "shape", "kinds", "message"),
    [
        ("other", (2, 3), "f", "the array 'other' is missing"),
        ("table", (2, 4), "f", "shape"),
        ("table", (2,), "f", "shape"),
        ("table", (2, 3, 1), "f", "shape"),
        ("table", (2, 3), "iU", "type float32"),
    ],
)
def test_a_misfit_is_named(name, shape, kinds, message):
    arrays = {"table": np.zeros((2, 3), dtype=np.float32)}
    with pytest.raises(ValueError, match=message):
        check_array(arrays, name, shape, kinds)


def test_none_stands_for_any_length():
    table = np.zeros((2, 3), dtype=np.float32)
    assert check_array({"table": table}, "table", (None, 3), "if") is table
