"""Tables of every format, with the line of every row."""

from __future__ import annotations

import builtins
import datetime
import gzip
import json

import pytest

from recbole_llmkt.datasets.importing.reading import BadRows, Reading, as_text, read_table
from recbole_llmkt.utils.exceptions import DataError


@pytest.fixture
def read(tmp_path):
    """Return a function that writes a file, reads it, and returns the table and its bad rows."""

    def write_and_read(name: str, content: str | bytes, **keys):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        bad = BadRows()
        return read_table(path, Reading(**keys), bad), bad

    return write_and_read


def test_cells_stay_what_they_are(read):
    table, bad = read("a.csv", "id,b\n007, x \nNA,null\nNaN,\n1e5,\u00a0\n")
    assert table.frame.values.tolist() == [
        ["007", " x "],
        ["NA", "null"],
        ["NaN", ""],
        ["1e5", "\u00a0"],
    ]
    assert not bad.reasons


@pytest.mark.parametrize(
    ("name", "separator"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t"), ("a.csv", "|")]
)
def test_the_separator_is_that_of_the_header(read, name, separator):
    table, _ = read(
        name,
        f"\ufeffa{separator}b\r\n1{separator}x,y;z\r\n" if separator != ";" else "a;b\n1;x,y\n",
    )
    assert list(table.frame.columns) == ["a", "b"]


def test_line_numbers_count_line_breaks_within_cells(read):
    content = 'a,b\n1,"x\ny"\n\n2\n3,4\n5,6,7\n"8"x,9\n10,11\n12,"open\n'
    table, bad = read("a.csv", content)
    assert table.frame.index.tolist() == [2, 6, 9]
    reasons = list(bad.reasons.values())
    assert [int(text.split(":")[0].split()[-1]) for text in reasons] == [5, 7, 8, 10]
    assert reasons[1] == "a.csv, line 7: 3 cells, the header 2"
    assert "never closed" in reasons[3]


def test_the_listing_ends_after_twenty_rows(read):
    _, bad = read("a.csv", "a,b\n" + "1\n" * 23)
    lines = bad.listing().splitlines()
    assert len(lines) == 21 and lines[0] == "  a.csv, line 2: 1 cells, the header 2"
    assert lines[-1] == "  and 3 more"


def test_gzip_and_other_encodings(read):
    table, _ = read("a.csv.gz", gzip.compress("a,b\nü,1\n".encode()))
    assert table.frame["a"].tolist() == ["ü"]
    table, _ = read("b.csv", "a,b\nü,1\n".encode("latin-1"), encoding="latin-1")
    assert table.frame["a"].tolist() == ["ü"]
    table, _ = read("c.tsv", "a\tb\nü\t1\n".encode("utf-16"), encoding="utf-16")
    assert table.frame["a"].tolist() == ["ü"]


def test_json_lines_keep_ids_and_nested_values(read):
    rows = [
        {"user": {"email": "a@x"}, "item": 7, "tags": ["Home", "Tools"], "ok": True},
        {"user": {"email": "b@x"}, "item": 7.0, "tags": None, "note": "null"},
    ]
    content = json.dumps(rows[0]) + "\n\n{oops\n[1]\n" + json.dumps(rows[1]) + "\n"
    table, bad = read("a.jsonl", content)
    assert table.frame.to_dict("records") == [
        {"user.email": "a@x", "item": "7", "tags": '["Home", "Tools"]', "ok": "true", "note": ""},
        {"user.email": "b@x", "item": "7", "tags": "", "ok": "", "note": "null"},
    ]
    assert table.frame.index.tolist() == [1, 5]
    assert [number for _, number in bad.reasons] == [3, 4]


def test_texts_that_stand_for_missing_values(read):
    table, _ = read("a.csv", "a,b\nNULL,1\n\\N,NULLS\n", missing=("NULL", "\\N"))
    assert table.frame.values.tolist() == [["", "1"], ["", "NULLS"]]


def test_values_of_json_and_parquet_as_text():
    moment = datetime.datetime(2024, 1, 3, 5, tzinfo=datetime.timezone.utc)
    assert as_text(moment) == "2024-01-03T05:00:00+00:00"
    assert [as_text(value) for value in (2**60, 0.5, float("nan"), b"x", False)] == [
        str(2**60),
        "0.5",
        "",
        "x",
        "false",
    ]


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table(
        {
            "id": pyarrow.array([7, None], pyarrow.int64()),
            "name": ["NA", None],
            "at": pyarrow.array([1704311603000000, None], pyarrow.timestamp("us", tz="UTC")),
            "tags": [["Home", "Tools"], []],
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    read = read_table(tmp_path / "a.parquet", Reading(), BadRows())
    assert read.frame.to_dict("list") == {
        "id": ["7", ""],
        "name": ["NA", ""],
        "at": ["2024-01-03T19:53:23+00:00", ""],
        "tags": ['["Home", "Tools"]', "[]"],
    }
    assert read.place(read.frame.index[1]) == "row 2"
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="Cannot read"):
        read_table(tmp_path / "b.parquet", Reading(), BadRows())


def test_parquet_without_pyarrow_names_the_fix(read, monkeypatch):
    known = builtins.__import__

    def without_pyarrow(name, *arguments, **keys):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return known(name, *arguments, **keys)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(DataError, match=r"pip install 'recbole_llmkt\[parquet\]'"):
        read("a.parquet", b"PAR1")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "no header"),
        ("a.csv", b"a,b\n", "no rows"),
        ("a.csv", b"a,a\n1,2\n", "two columns 'a'"),
        ("a.csv", b"x@y.de,S1\nz@y.de,S2\n", "first line must name the columns"),
        ("a.csv", b"a,b\n\xff,1\n", "--encoding=latin-1"),
        ("a.csv.gz", b"a,b\n1,2\n", "Cannot read"),
        ("a.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], "Cannot read"),
        ("a.json", b'[{"a": 1}]', "jq -c"),
        ("a.xlsx", b"", "must end with"),
    ],
)
def test_files_that_cannot_be_read(read, name, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read(name, content)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="There is no file"):
        read_table(tmp_path / "a.csv", Reading(), BadRows())


def test_half_of_a_character_is_a_bad_row(tmp_path):
    path = tmp_path / "orders.jsonl"
    path.write_text('{"user": "\\ud83d\\ude00"}\n{"user": "\\ud83d"}\n')
    bad = BadRows()
    table = read_table(path, Reading(), bad)
    assert table.frame["user"].tolist() == ["\U0001f600"]
    assert "half of a character" in str(bad.reasons)
