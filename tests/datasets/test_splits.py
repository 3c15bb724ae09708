"""RecBole's splits, outside a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_llmkt.compat import create_dataset
from recbole_llmkt.datasets import splits
from recbole_llmkt.datasets.splits import (
    build_splits,
    interaction_file,
    rating_field,
    training_split,
)
from recbole_llmkt.utils.exceptions import DataError


def ratings_of(split):
    """Return the ratings of a split by the tokens of user and item."""
    users = split.id2token("user_id", split.inter_feat["user_id"].numpy())
    items = split.id2token("item_id", split.inter_feat["item_id"].numpy())
    return dict(zip(zip(users, items), split.inter_feat["rating"].tolist()))


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"normalize_all": True},
        {"threshold": {"rating": 3}, "LABEL_FIELD": "label"},
        {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}},
    ],
    ids=["plain", "normalised", "labels", "not loaded"],
)
def test_ratings_are_those_of_the_file_whatever_recbole_makes_of_them(make_dataset, keys):
    dataset = make_dataset(n_users=6, n_items=12, per_user=(5, 8))
    written = {(user, item): float(rating) for user, item, rating, _ in dataset.rows}
    splits = build_splits(dataset.config(**keys))
    read = [ratings_of(split) for split in splits]
    assert {pair: value for part in read for pair, value in part.items()} == written
    assert sum(map(len, read)) == len(written)  # no row is in two splits


@pytest.mark.parametrize("columns", [["user_id", "item_id"], ["user_id", "item_id", "rating"]])
@pytest.mark.parametrize("written", [("3.5", 3.5), ("0.1", 0.1), ("16777217", 16777217.0)])
def test_ratings_keep_every_digit_and_the_file_is_read_once(
    make_dataset, monkeypatch, columns, written
):
    dataset = make_dataset(n_users=6, n_items=12, per_user=(5, 8))
    path = dataset.folder / "tiny.inter"
    header, *rows = path.read_text().splitlines()
    rows = ["\t".join([*row.split("\t")[:2], written[0], row.split("\t")[3]]) for row in rows]
    path.write_text("\n".join([header, *rows]) + "\n")
    made = []
    monkeypatch.setattr(
        splits, "create_dataset", lambda config: made.append(create_dataset(config)) or made[-1]
    )
    eval_args = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO"}
    parts = build_splits(dataset.config(load_col={"inter": columns}, eval_args=eval_args))
    assert [set(ratings_of(part).values()) for part in parts] == [{written[1]}] * 3
    assert len(made) == 1


def test_the_training_split_is_the_first_and_the_random_streams_stay(make_dataset):
    dataset = make_dataset(n_users=6, n_items=12, per_user=(5, 8))
    config = dataset.config(eval_args={"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO"})
    torch.manual_seed(5)
    np.random.seed(5)
    wanted = torch.rand(1), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    train = training_split(config)
    assert (torch.rand(1), np.random.rand()) == wanted
    assert ratings_of(train) == ratings_of(build_splits(config)[0])


def test_a_split_that_recbole_cannot_make_is_one_error(make_dataset):
    dataset = make_dataset(n_users=3, n_items=6, per_user=(3, 4))
    with pytest.raises(DataError, match=r"RecBole cannot split dataset 'tiny'.*eval_args"):
        build_splits(dataset.config(val_interval={"rating": "[100,200]"}))  # leaves no row


def test_files_and_columns_follow_the_keys():
    config = {"data_path": "data/tiny", "dataset": "tiny", "benchmark_filename": ["train", "test"]}
    assert interaction_file(config) == Path("data/tiny/tiny.train.inter")
    assert interaction_file({**config, "benchmark_filename": None}) == Path("data/tiny/tiny.inter")
    keys = {"profile_rating_field": None, "RATING_FIELD": "stars"}
    assert rating_field(keys) == "stars"
    assert rating_field({**keys, "profile_rating_field": "rating"}) == "rating"
