"""Atomic files, cell by cell."""

from __future__ import annotations

import pytest

from recbole_llmkt.datasets.atomic import AtomicFile, value_of, write_atomic_file
from recbole_llmkt.utils.exceptions import DataError

CONFIG = {"field_separator": "\t", "seq_separator": " ", "encoding": None}


def read(tmp_path, text, **changes):
    path = tmp_path / "tiny.item"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return AtomicFile(path, {**CONFIG, **changes})


def test_cells_are_read_to_the_letter(tmp_path):
    text = '\ufeffitem_id:token\ttitle:token_seq\nNaN\t"a ""b"""\n\n007\u00a0\n 1e5 \tx\n'
    file = read(tmp_path, text)
    assert file.columns == ["item_id", "title"]
    assert file.types == {"item_id": "token", "title": "token_seq"}
    assert list(file.rows()) == [
        {"item_id": "NaN", "title": 'a "b"'},
        {"item_id": "007\u00a0", "title": ""},  # a row without its last cells
        {"item_id": " 1e5 ", "title": "x"},
    ]


@pytest.mark.parametrize(
    ("column", "cell", "values"),
    [
        ("name", "two words", ("two words",)),
        ("name", "", ()),
        ("tags", "War  Drama", ("War", "Drama")),
        ("tags", "'CDs & Vinyl', \"Children's Music\"", ("CDs & Vinyl", "Children's Music")),
        ("tags", "['a b', 3]", ("a b", "3")),
        ("tags", "'til dawn", ("'til", "dawn")),  # no notation of Python's
        ("tags", "[__import__('os')]", ("[__import__('os')]",)),
    ],
)
def test_a_sequence_is_split_and_a_token_is_not(tmp_path, column, cell, values):
    file = read(tmp_path, "name:token\ttags:token_seq\n")
    assert file.split(column, {"name": "", "tags": "", column: cell}) == values


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        ("id:token\ta:token\n1\t2\t3\n", {}, "Line 2 of .* ends a row of 3 cells, .* 2 columns"),
        ('id:token\ta:token\n1\t"2\n3\t4\n', {}, "Line 3 of .*close every cell"),
        (b"id:token\n\xe9\n", {}, "is not utf-8.* at byte .*set encoding"),
        ("id:token\n1\n", {"field_separator": "::"}, "Check field_separator"),
    ],
    ids=["long row", "open quote", "latin-1", "separator"],
)
def test_files_that_cannot_be_read_are_named_with_the_fix(tmp_path, text, changes, message):
    with pytest.raises(DataError, match=message):
        list(read(tmp_path, text, **changes).rows())


def test_a_column_that_is_not_there_names_those_that_are(tmp_path):
    file = read(tmp_path, "item_id:token\ttitle:token\n")
    assert file.require("title", "profile_title_field") == "title"
    with pytest.raises(DataError, match=r"no column 'titel'; there are item_id, title\. Set key"):
        file.require("titel", "key")


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "tiny.userprof"
    rows = [["u\t1", 'says "no"\nand goes'], ["\ud800", "lone surrogate"], ["é", ""]]
    write_atomic_file(path, ["user_id:token", "text:token"], rows, CONFIG)
    file = AtomicFile(path, CONFIG)
    assert [[*row.values()] for row in file.rows()] == rows


def test_an_id_that_the_encoding_lacks_is_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "tiny.userprof"
    config = {**CONFIG, "encoding": "latin-1"}
    write_atomic_file(path, ["id:token", "text:token"], [["é", "5 €"]], config)
    assert path.read_bytes() == "id:token\ttext:token\né\t5 ?\n".encode("latin-1")
    with pytest.raises(DataError, match=r"'\\u20ac' cannot be written in latin-1"):
        write_atomic_file(path, ["id:token"], [["a"], ["€"]], config)
    assert path.read_bytes().startswith(b"id:token\ttext")


@pytest.mark.parametrize(
    ("cell", "value"), [(" x ", "x"), ("nan", ""), (" nan", ""), ("NaN", "NaN")]
)
def test_value_of_a_cell(cell, value):
    assert value_of(cell) == value
