"""Gaps in atomic files are filled as RecBole's documentation says, with any pandas."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from recbole.data.dataset.dataset import Dataset

from recbole_llmkt.compat import create_dataset, data_preparation, pandas, pandas_data

ITEMS = """item_id:token\tgenre:token\ttags:token_seq\tprice:float\tsizes:float_seq
i0\ta\tx y\t1.0\t1.0 2.0
i1\t\ty\t\t3.0
i2\tb\t\t4.0\t
i3\ta\tz x y\t\t5.0 6.0 7.0
i4\t\t\t\t
i5\t\t\t\t
"""


@pytest.fixture
def gaps(make_dataset):
    dataset = make_dataset(n_items=6, per_user=(3, 4))
    (dataset.folder / "tiny.item").write_text(ITEMS)
    return dataset


def columns(gaps, **keys):
    load_col = {
        "inter": ["user_id", "item_id", "rating", "timestamp"],
        "item": ["item_id", "genre", "tags", "price", "sizes"],
    }
    config = gaps.config(
        "DeepFM", kt_enabled=False, load_col=load_col, threshold={"rating": 3}, **keys
    )
    dataset = create_dataset(config)
    data_preparation(config, dataset)
    items = dataset.item_feat
    order = [dataset.token2id("item_id", f"i{number}") for number in range(4)]
    return dataset, {name: items[name].numpy()[order] for name in items.interaction}


def test_gaps_are_filled_and_sequences_split(gaps):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset, items = columns(gaps, numerical_features=[])
    assert not [warning for warning in caught if "recbole" in warning.filename]
    assert dataset.field2id_token["genre"].tolist() == ["[PAD]", "a", "b"]
    assert items["genre"].tolist() == [1, 0, 2, 1]
    tags = dataset.field2id_token["tags"].tolist()
    assert [[tags[tag] for tag in row if tag] for row in items["tags"]] == [
        ["x", "y"],
        ["y"],
        [],
        ["z", "x", "y"],
    ]
    np.testing.assert_allclose(items["price"].reshape(4, -1)[:, 0], [1, 2.5, 4, 2.5])
    assert dataset.field2seqlen["sizes"] == 3


def test_float_sequences_are_normalized_row_by_row(gaps):
    _, items = columns(gaps, numerical_features=[], normalize_all=True)
    sizes = items["sizes"].reshape(4, -1)
    expected = (np.array([1.0, 2.0, 3.0, 5.0, 6.0, 7.0]) - 1) / 6
    np.testing.assert_allclose(sizes[3][:3], expected[3:], rtol=1e-6)
    np.testing.assert_allclose(sizes[0][:2], expected[:2], rtol=1e-6)


PLAIN = "user_id:token\trating:float\ttags:token_seq\nü\t0.1\tx y\n01\t\t\nNA\t1e400\ta'b\n"
ODD = {
    "quotes": PLAIN + '"a\tb"\t1\tx\n',
    "a quote that does not end": PLAIN + '"a\t1\tx\n',
    "NUL": PLAIN + "a\x00\t1\tx\n",
    "a vertical tab": PLAIN + "\x0b\t1\tx\n",
    "Windows": PLAIN.replace("\n", "\r\n"),
    "an empty line": PLAIN + "\n\nz\t1\tx\n",
    "a cell too few": PLAIN + "z\t1\n",
    "a cell too many": PLAIN.replace("0.1\tx", "0.1\tx\t"),
    "zero": PLAIN.replace("0.1", "-0").replace("1e400", "2"),
    "a mark at the start": "\ufeff" + PLAIN,
    "one column": "user_id:token\na\n \nb\n",
    "no text": PLAIN.encode() + b"\xff\t1\tx\n",
}


PANDAS_3 = int(pd.__version__.partition(".")[0]) > 2  # the C engine of earlier ones refuses 1e400


def read_by(monkeypatch, **keywords):
    """Return how the loaded columns of a file are read, or the error, and by which engines."""
    engines, read = [], pd.read_csv

    def noted(*arguments, **given):
        engines.append(given["engine"])
        return read(*arguments, **given)

    monkeypatch.setattr(pandas, "_read_csv", noted)
    try:
        frame = pandas._read_quickly("file", **keywords, **READ)
    except ValueError as error:
        return f"{type(error).__name__}: {error}", engines
    return [(name, [repr(cell) for cell in column]) for name, column in frame.items()], engines


READ = {"delimiter": "\t", "encoding": "utf-8", "engine": "python"}


@pytest.mark.parametrize("name", ["plain", *ODD])
def test_the_quick_engine_reads_only_what_both_read_alike(monkeypatch, name):
    content = ODD.get(name, PLAIN)
    Path("file").write_bytes(content if isinstance(content, bytes) else content.encode())
    types = {"user_id:token": str, "rating:float": np.float64, "tags:token_seq": str}
    given = {"usecols": list(types)[: 1 if name == "one column" else 2], "dtype": types}
    made, engines = read_by(monkeypatch, **given)
    monkeypatch.setattr(pandas, "_is_plain", lambda *arguments: False)
    assert made == read_by(monkeypatch, **given)[0]
    if name != "plain" or PANDAS_3:
        assert engines[-1] == ("c" if name == "plain" else "python")


def test_the_repairs_come_off():
    before = (pd.read_csv, pd.Series.agg, Dataset._fill_nan)
    with pandas_data():
        assert pd.Series([[1, 2], [3]]).agg(len).tolist() == [2, 1]
        with pandas_data():
            pass
        assert pd.Series.agg is not before[1]
    assert (pd.read_csv, pd.Series.agg, Dataset._fill_nan) == before
    assert pd.Series([1.0, 2.0]).agg("sum") == 3.0
