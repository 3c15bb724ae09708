"""Files with vectors and recommendations, read back by what will read them."""

from __future__ import annotations

import builtins
import csv
import json
from pathlib import Path

import numpy as np
import pytest

from recbole_llmkt.recommend import files
from recbole_llmkt.recommend.explain import Explanation, Reason
from recbole_llmkt.recommend.factors import Factors
from recbole_llmkt.recommend.recommender import Block
from recbole_llmkt.utils.exceptions import ConfigError

USERS, ITEMS = ["u1", "雪"], ["i1", "a,b", '"q"']
FACTORS = Factors(np.arange(8, dtype="float32").reshape(2, 4), np.ones((3, 4), dtype="float32"))


def made(reason=False):
    """Yield a block for each of two users; the second has one item."""
    why = Explanation((Reason("Adores war.", 0.5, 0.25),))
    none = Explanation(note="no sentence fits")
    for user in USERS:
        count = 1 if user == "雪" else 2
        columns = (["i1", "a,b"], ["A\nfilm", "a,b"], [2.5, 0.5], [why, none])
        items, titles, scores, reasons = (column[:count] for column in columns)
        yield Block([user], [count], items, titles, scores, reasons if reason else None)


def test_npz():
    paths = files.write_vectors(Path("out"), USERS, ITEMS, FACTORS, "npz")
    assert paths == [Path("out/users.npz"), Path("out/items.npz")]
    with np.load(paths[0]) as users, np.load(paths[1]) as items:  # without pickle
        assert users["id"].tolist() == USERS and items["id"].tolist() == ITEMS
        assert np.array_equal(users["vector"], FACTORS.users)
        assert items["vector"].dtype == np.float32


def test_parquet_of_vectors():
    parquet = pytest.importorskip("pyarrow.parquet")
    paths = files.write_vectors(Path("out"), USERS, ITEMS, FACTORS, "parquet")
    table = parquet.read_table(paths[0])
    assert table["id"].to_pylist() == USERS
    assert table["vector"].to_pylist() == FACTORS.users.tolist()


def test_csv():
    assert files.write_recommendations(Path("top.csv"), made(), False) == 2
    with open("top.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["user", "rank", "item", "title", "score"],
        ["u1", "1", "i1", "A film", "2.5"],
        ["u1", "2", "a,b", "a,b", "0.5"],
        ["雪", "1", "i1", "A film", "2.5"],
    ]
    files.write_recommendations(Path("top.csv"), made(reason=True), True)
    with open("top.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["reason"] == "Adores war." and float(rows[0]["cosine"]) == 0.5
    assert rows[1]["reason"] == "" and rows[1]["note"] == "no sentence fits"


def test_no_text_in_csv_is_a_formula_and_ids_stay_as_they_are():
    why = Explanation((Reason("@SUM(1)", 0.5, 0.25),), note="-1\x9b1m\nnext")
    block = Block(["+u"], [1], ["=1"], ["=cmd|' /C calc'!A0"], [1.0], [why])
    files.write_recommendations(Path("top.csv"), [block], True)
    with open("top.csv", encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["user"], row["item"]) == ("+u", "=1")
    assert row["title"] == "'=cmd|' /C calc'!A0"
    assert (row["reason"], row["note"]) == ("'@SUM(1)", "'-1 next")


def test_json_lines():
    files.write_recommendations(Path("top.jsonl"), made(reason=True), True)
    first, second = map(json.loads, Path("top.jsonl").read_text(encoding="utf-8").splitlines())
    assert first["user"] == "u1" and [item["item"] for item in first["items"]] == ["i1", "a,b"]
    assert first["items"][0]["reasons"][0]["margin"] == 0.25
    assert second["user"] == "雪"


@pytest.mark.parametrize("reason", [False, True])
def test_parquet_is_written_group_by_group(monkeypatch, reason):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(files, "_GROUP", 1)
    files.write_recommendations(Path("top.parquet"), made(reason), reason)
    assert parquet.ParquetFile("top.parquet").num_row_groups == 2
    table = parquet.read_table("top.parquet").to_pydict()
    assert table["user"] == ["u1", "u1", "雪"] and table["rank"] == [1, 2, 1]
    assert table["score"] == [2.5, 0.5, 2.5]
    assert table.get("reason") == (["Adores war.", None, "Adores war."] if reason else None)
    for blocks in ([], [Block(["u1"], [0], [], [], [], [] if reason else None)]):
        files.write_recommendations(Path("none.parquet"), blocks, reason)
        assert parquet.read_table("none.parquet").num_rows == 0


def test_an_error_on_the_way_leaves_the_old_file():
    Path("top.csv").write_text("old")

    def broken():
        yield from made()
        raise ConfigError("stop")

    with pytest.raises(ConfigError):
        files.write_recommendations(Path("top.csv"), broken(), False)
    assert Path("top.csv").read_text() == "old" and len(list(Path().iterdir())) == 1


def test_without_pyarrow_there_is_one_line(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"Parquet needs pyarrow: pip install 'recbole_llmkt\["):
        files.check_format("parquet", files.LIST_FORMATS)
    files.check_format("csv", files.LIST_FORMATS)
    with pytest.raises(ConfigError, match=r"format 'npz' cannot .* parquet, csv, jsonl"):
        files.check_format("npz", files.LIST_FORMATS)
