"""Repeat purchases, counted by hand and against RecBole's own split and candidates."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recbole_llmkt.config import Config
from recbole_llmkt.datasets.importing.repeats import (
    SPLIT,
    in_time_order,
    repeated_in_test,
    without_duplicates,
    without_repeats,
)
from recbole_llmkt.datasets.loading import load_data


def frame(*rows):
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


def test_duplicates_and_repeats():
    inter = frame(
        ("u", "a", 3.0), ("u", "a", 1.0), ("u", "b", 2.0), ("u", "a", 1.0), ("v", "a", 1.0)
    )
    different = without_duplicates(in_time_order(inter))
    assert different.index.tolist() == [1, 4, 2, 0]
    assert without_repeats(different, "first").index.tolist() == [1, 4, 2]
    assert without_repeats(different, "last").index.tolist() == [4, 2, 0]
    assert without_repeats(different, "keep") is different


def test_without_times_the_order_is_that_of_the_file():
    inter = frame(("u", "a", 3.0), ("u", "a", 1.0))[["user_id", "item_id"]]
    assert without_duplicates(in_time_order(inter)) is inter


def test_shares_by_hand():
    ten = [("u", item, float(time)) for time, item in enumerate("abcdefghax")]
    assert repeated_in_test(frame(*ten)) == {"70/10/20": 0.5, "leave-one-out": 0.0}
    assert repeated_in_test(frame(*ten[:9]))["leave-one-out"] == 1.0
    assert repeated_in_test(frame(("u", "a", 1.0))) == {"70/10/20": 0.0, "leave-one-out": 0.0}


@pytest.fixture
def repeating(tmp_path):
    """Write interactions of which many repeat earlier ones, in the order of time."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{rng.integers(8)}", f"i{rng.integers(60) // rng.integers(1, 4)}", float(time))
        for time in range(200)
    ]
    inter = without_duplicates(frame(*rows))
    (tmp_path / "mine").mkdir()
    header = "user_id:token\titem_id:token\ttimestamp:float\n"
    (tmp_path / "mine" / "mine.inter").write_text(
        header + "".join(f"{user}\t{item}\t{time}\n" for user, item, time in rows)
    )
    keys = {
        "data_path": str(tmp_path),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"RS": list(SPLIT)}, "order": "TO", "group_by": "user"},
        "kt_enabled": False,
    }
    return inter, Config("BPR", "mine", config_dict=keys, command_line=[])


def test_the_share_is_that_of_recboles_split_and_such_items_stay_candidates(repeating):
    inter, config = repeating
    _, train, valid, test = load_data(config)
    parts = [loader._dataset.inter_feat for loader in (train, valid, test)]
    pairs = [list(zip(part["user_id"].tolist(), part["item_id"].tolist())) for part in parts]
    before = {*pairs[0], *pairs[1]}
    repeated = [pair for pair in pairs[2] if pair in before]
    assert repeated_in_test(inter)["70/10/20"] == pytest.approx(len(repeated) / len(pairs[2]))
    assert 0.3 < len(repeated) / len(pairs[2]) < 1
    # What the message and docs/import.md say: RecBole masks what was trained on, but not these.
    user, item = repeated[0]
    assert item not in test.uid2history_item[user].tolist()
    assert item in test.uid2positive_item[user].tolist()
    trained = {other for owner, other in before if owner == user}
    asked = {other for owner, other in pairs[2] if owner == user}
    assert set(test.uid2history_item[user].tolist()) == trained - asked
