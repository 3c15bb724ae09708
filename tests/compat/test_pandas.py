"""Gaps in atomic files are filled as RecBole's documentation says, with any pandas."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from recbole.data.dataset.dataset import Dataset

from recbole_llmkt.compat import create_dataset, data_preparation, pandas_data

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


def test_the_repairs_come_off():
    before = (pd.read_csv, pd.Series.agg, Dataset._fill_nan)
    with pandas_data():
        assert pd.Series([[1, 2], [3]]).agg(len).tolist() == [2, 1]
        with pandas_data():
            pass
        assert pd.Series.agg is not before[1]
    assert (pd.read_csv, pd.Series.agg, Dataset._fill_nan) == before
    assert pd.Series([1.0, 2.0]).agg("sum") == 3.0
