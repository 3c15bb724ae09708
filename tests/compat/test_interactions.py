"""Interactions that are read, counted and split compactly are RecBole's, value by value."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.utils import init_seed

from recbole_llmkt.compat import (
    create_dataset,
    interactions,
    pandas,
    pandas_data,
    release_when_split,
)

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
    "no rows": PLAIN.partition("\n")[0] + "\n",
    "no text": PLAIN.encode() + b"\xff\t1\tx\n",
}


PANDAS_3 = int(pd.__version__.partition(".")[0]) > 2  # the C engine of earlier ones refuses 1e400
READ = {"delimiter": "\t", "encoding": "utf-8", "engine": "python"}


def read_by(monkeypatch, **keywords):
    """Return how the loaded columns of a file are read, or the error, and by which engines."""
    engines, read = [], pd.read_csv

    def noted(*arguments, **given):
        engines.append(given["engine"])
        return read(*arguments, **given)

    for module in (pandas, interactions):
        monkeypatch.setattr(module, "_read_csv", noted)
    try:
        frame = pandas._read_quickly("file", **keywords, **READ)
    except ValueError as error:
        return f"{type(error).__name__}: {error}", engines
    return [(name, [repr(cell) for cell in column]) for name, column in frame.items()], engines


@pytest.mark.parametrize("name", ["plain", *ODD])
@pytest.mark.parametrize("characters", [2, 2**24])
def test_the_quick_engine_reads_only_what_both_read_alike(monkeypatch, name, characters):
    content = ODD.get(name, PLAIN)
    Path("file").write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.setattr(interactions, "_CHARACTERS", characters)
    monkeypatch.setattr(interactions, "_ROWS", 2)
    types = {"user_id:token": str, "rating:float": np.float64, "tags:token_seq": str}
    given = {"usecols": list(types)[: 1 if name == "one column" else 3], "dtype": types}
    made, engines = read_by(monkeypatch, **given)
    monkeypatch.setattr(interactions, "_plain_rows", lambda *arguments: None)
    assert made == read_by(monkeypatch, **given)[0]
    if name != "plain" or PANDAS_3:
        assert engines[-1] == ("c" if name in ("plain", "no rows") else "python")


def eval_args(split, order="RO", group_by="user"):
    return {"eval_args": {"split": split, "order": order, "group_by": group_by, "mode": "full"}}


SHARES = {"RS": [0.6, 0.2, 0.2]}
SETTINGS = {
    "by shares": eval_args(SHARES),
    "no validation": eval_args({"RS": [3, 0, 1]}, "TO"),
    "all users at once": eval_args(SHARES, "TO", None),
    "the last two": eval_args({"LS": "valid_and_test"}, "TO"),
    "validation alone": eval_args({"LS": "valid_only"}),
    "test alone": eval_args({"LS": "test_only"}),
    "filters": {
        "user_inter_num_interval": "[2,4]",
        "item_inter_num_interval": "[2,inf)",
        "val_interval": {"brand": ["b0", "b1"], "rating": "[2,inf)"},
        "filter_inter_by_user_or_item": True,
        "rm_dup_inter": "last",
    },
    "labels": {"threshold": {"rating": 3}, "unused_col": {"inter": ["timestamp"]}},
    "one numbering": {"alias_of_item_id": ["brand", "related"]},
}


@pytest.fixture
def gaps(make_dataset):
    """Return a dataset with users of one row, rows that repeat, and ids that are missing."""
    dataset = make_dataset(n_users=40, n_items=12, per_user=(1, 5))
    with open(dataset.folder / "tiny.inter", "a") as file:
        file.writelines(["u1\ti1\t3\t5\n", "u1\ti1\t4\t9\n", "u3\t\t1\t2\n"])
    items = [f"i{n}\tb{n % 3}\ti{n + 1} i{n + 2}\t{n}.5\n" for n in range(2, 12)]
    header = "item_id:token\tbrand:token\trelated:token_seq\tprice:float\n"
    (dataset.folder / "tiny.item").write_text("".join([header, *items, "i99\t\t\t\n"]))
    return dataset


def parts_of(dataset, model, keys, *, released=False):
    """Return the parts of a dataset, and what RecBole knows of its tokens."""
    load_col = {"inter": ["user_id", "item_id", "rating", "timestamp"]}
    if "val_interval" in keys or "alias_of_item_id" in keys:
        load_col["item"] = ["item_id", "brand", "related", "price"]
    config = dataset.config(model, kt_enabled=False, load_col=load_col, **keys)
    init_seed(config["seed"], config["reproducibility"])
    whole = create_dataset(config)
    if released:
        release_when_split(whole)
    with pandas_data():
        parts = whole.build()
    assert bool(whole.inter_feat.interaction) != released
    return parts, whole


def assert_equal(columns, expected):
    assert list(columns.interaction) == list(expected.interaction)
    for name, values in expected.interaction.items():
        assert columns[name].dtype == values.dtype
        assert torch.equal(columns[name], values), name


SEQUENTIAL = ("no validation", "the last two", "filters")  # in the order of time, that is


@pytest.mark.parametrize(
    ("model", "name"), [*(("BPR", name) for name in SETTINGS), *(("SASRec", n) for n in SEQUENTIAL)]
)
def test_all_parts_are_recboles(monkeypatch, gaps, model, name):
    monkeypatch.setattr(interactions, "_ROWS", 7)
    keys = SETTINGS[name]
    parts, whole = parts_of(gaps, model, keys)
    released, _ = parts_of(gaps, model, keys, released=True)
    monkeypatch.setattr(pandas, "compact_interactions", nullcontext)
    monkeypatch.setattr(pandas, "read_plain", lambda *arguments, **keywords: None)
    expected, expected_whole = parts_of(gaps, model, keys)
    assert_equal(whole.inter_feat, expected_whole.inter_feat)
    for made in (parts, released):
        assert len(made) == len(expected)
        for part, expected_part in zip(made, expected):
            assert_equal(part.inter_feat, expected_part.inter_feat)
    for field, tokens in expected_whole.field2id_token.items():
        assert whole.field2id_token[field].tolist() == tokens.tolist()
        assert whole.field2token_id[field] == expected_whole.field2token_id[field]
    if expected_whole.item_feat is not None:
        assert_equal(whole.item_feat, expected_whole.item_feat)


def test_a_row_takes_a_number_a_token(gaps):
    frame = interactions.read_plain(
        str(gaps.folder / "tiny.inter"),
        delimiter="\t",
        encoding="utf-8",
        usecols=["user_id:token", "rating:float"],
        dtype={"user_id:token": str, "rating:float": np.float64},
    )
    assert frame["user_id:token"].cat.codes.dtype.itemsize <= 4


def test_values_are_counted_as_by_a_counter():
    values = pd.Categorical(["b", "a", None, "b"], categories=["c", "a", "b"])
    assert interactions.count(values) == {"a": 1, "b": 2}
    assert interactions.count([1, 1, 2]) == {1: 2, 2: 1}
    assert interactions.count() == {}


def test_an_unknown_part_is_refused_as_by_recbole(gaps):
    whole = create_dataset(gaps.config("BPR", kt_enabled=False))
    with pandas_data():
        with pytest.raises(ValueError, match="require a group field"):
            whole.leave_one_out(None, "valid_only")
        with pytest.raises(NotImplementedError, match=r"\[some\]"):
            whole.leave_one_out("user_id", "some")
