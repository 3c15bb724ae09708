"""Histories: exactly the interactions of RecBole's own training split."""

from __future__ import annotations

import hashlib
import random
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_llmkt.config import Config
from recbole_llmkt.datasets import history
from recbole_llmkt.datasets.checks import check_files
from recbole_llmkt.datasets.history import Histories, history_digest, training_histories
from recbole_llmkt.datasets.splits import build_splits, training_split
from recbole_llmkt.profiles.store import ProfileStore
from recbole_llmkt.utils import resources
from recbole_llmkt.utils.exceptions import DataError


def by_token(histories: Histories) -> dict[str, list[str]]:
    """Return user token -> item tokens, in the stored order."""
    return {
        str(user): [str(histories.item_tokens[item]) for item in histories.items(user_id)]
        for user_id, user in enumerate(histories.user_tokens)
        if user_id
    }


def first_part(dataset, share=0.6) -> dict[str, list[str]]:
    """Work out a 60/20/20 split per user by hand, in the order of time."""
    kept = {}
    for user in {row[0] for row in dataset.rows}:
        mine = sorted((row for row in dataset.rows if row[0] == user), key=lambda row: row[3])
        n_held_out = 2 * int(round((1 - share) / 2, 3) * len(mine))
        kept[user] = [row[1] for row in mine[: len(mine) - n_held_out]]
    return kept


def test_digest_is_blake2b_of_the_sorted_tokens():
    expected = hashlib.blake2b("10\n9\né".encode(), digest_size=8).hexdigest()
    assert history_digest(["9", "é", "10"]) == expected
    assert history_digest(["9", "9"]) != history_digest(["9"])


@pytest.mark.parametrize(
    ("model", "extra", "n_users"),
    [("NeuMF", {}, 943), ("DCN", {}, 943), ("NeuMF", {"user_inter_num_interval": "[20,150]"}, 717)],
)
def test_bundled_profiles_were_written_from_this_split(model, extra, n_users):
    config = Config(model, "ml-100k", config_dict=extra, command_line=[])
    digests = training_histories(training_split(config)).digests()
    profiles = ProfileStore(resources.bundled_dir("ml-100k") / "profiles", "user").read()
    assert len(digests) == n_users
    assert digests == {token: profiles[token].history for token in digests}


def test_histories_are_the_first_part_in_the_order_of_time(tiny):
    histories = training_histories(training_split(tiny.config()))
    assert by_token(histories) == first_part(tiny)
    assert histories.digests() == {u: history_digest(i) for u, i in first_part(tiny).items()}


@pytest.mark.parametrize("model", ["BPR", "GRU4Rec"])
def test_further_columns_come_in_the_order_of_the_items(tiny, model):
    header = "user_id:token\titem_id:token\ttimestamp:float\tprice:float\tshop:token\n"
    lines = [
        f"{user}\t{item}\t{moment}\t{int(item[1:])}.45\tshop {user}\n"
        for user, item, _, moment in tiny.rows
    ]
    (tiny.folder / "tiny.inter").write_text(header + "".join(lines))
    columns = ["user_id", "item_id", "timestamp", "price", "shop"]
    keys = {"load_col": {"inter": columns}, "train_neg_sample_args": None}
    histories = training_histories(training_split(tiny.config(model, **keys)))
    for user_id, (user, items) in enumerate(by_token(histories).items(), start=1):
        further = histories.further_columns(user_id)
        assert set(further) == {"price", "shop"}
        assert further["price"] == pytest.approx([int(item[1:]) + 0.45 for item in items])
        assert further["shop"].tolist() == [f"shop {user}"] * len(items)
    unloaded = training_histories(training_split(tiny.config(load_col={"inter": columns[:3]})))
    assert (
        unloaded.further == {}
        and unloaded.digests() == training_histories(training_split(tiny.config(**keys))).digests()
    )


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"normalize_all": True},
        {"threshold": {"rating": 3}},
        {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}},
    ],
    ids=["plain", "normalised", "labels", "not loaded"],
)
def test_ratings_come_on_the_scale_of_the_file(tiny, keys):
    histories = training_histories(training_split(tiny.config(**keys)))
    given = {(user, item): rating for user, item, rating, _ in tiny.rows}
    for user_id, (user, items) in enumerate(by_token(histories).items(), start=1):
        assert list(histories.ratings(user_id)) == [given[user, item] for item in items]


def test_sequential_models_see_each_interaction_once(tiny):
    split = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}}
    keys = {**split, "MAX_ITEM_LIST_LENGTH": 5, "train_neg_sample_args": None}
    general = training_histories(training_split(tiny.config("BPR", **split)))
    sequential = training_histories(training_split(tiny.config("GRU4Rec", **keys)))
    assert by_token(sequential) == by_token(general)
    assert sequential.digests() == general.digests()
    assert list(sequential.ratings(1)) == list(general.ratings(1))


def test_benchmark_files_define_the_split(tiny):
    rows = {"train": tiny.rows[:200], "valid": tiny.rows[200:250], "test": tiny.rows[250:]}
    for part, some in rows.items():
        lines = ["user_id:token\titem_id:token", *(f"{row[0]}\t{row[1]}" for row in some)]
        path = tiny.folder / f"tiny.{part}.inter"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = tiny.config(benchmark_filename=["train", "valid", "test"])
    histories = by_token(training_histories(training_split(config)))
    wanted: dict[str, list[str]] = {user: [] for user in histories}
    for user, item, *_ in rows["train"]:
        wanted[user].append(item)
    assert histories == wanted
    assert sum(map(len, by_token(training_histories(build_splits(config)[2])).values())) == len(
        rows["test"]
    )


def test_benchmark_files_with_item_lists(tiny):
    lines = ["user_id:token\titem_id_list:token_seq\titem_id:token"]
    rows = ["a\tx y\tz", "a\tx y z\tw", "b\ty\tx"]
    for part in ("train", "valid", "test"):
        path = tiny.folder / f"tiny.{part}.inter"
        path.write_text("\n".join(lines + rows) + "\n", encoding="utf-8")
    config = tiny.config(
        "GRU4Rec",
        benchmark_filename=["train", "valid", "test"],
        load_col=None,
        alias_of_item_id=["item_id_list"],
        train_neg_sample_args=None,
    )
    histories = by_token(training_histories(training_split(config)))
    assert {user: sorted(items) for user, items in histories.items()} == {
        "a": ["w", "x", "y", "z"],
        "b": ["x", "y"],
    }


def test_random_streams_are_left_alone_and_the_seed_decides(tiny):
    keys = {"eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "group_by": "user"}}
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    first = training_histories(training_split(tiny.config(**keys))).digests()
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected
    assert training_histories(training_split(tiny.config(**keys))).digests() == first
    assert training_histories(training_split(tiny.config(seed=1, **keys))).digests() != first


def test_byte_order_mark_is_named(tiny):
    path = tiny.folder / "tiny.inter"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    with pytest.raises(DataError, match="utf-8-sig"):
        training_split(tiny.config())
    histories = training_histories(training_split(tiny.config(encoding="utf-8-sig")))
    assert by_token(histories) == first_part(tiny)
    check_files(tiny.config(encoding="utf-8-sig"))


def test_windows_line_ends_and_odd_unicode(make_dataset):
    dataset = make_dataset(user="ü\u2028{}".format, item="映画\U0001f3ac{}".format)
    path = dataset.folder / "tiny.inter"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    histories = training_histories(training_split(dataset.config()))
    assert by_token(histories) == first_part(dataset)
    assert histories.digests() == {u: history_digest(i) for u, i in first_part(dataset).items()}


def test_what_recbole_cannot_split_is_one_clear_error(tiny):
    (tiny.folder / "tiny.inter").unlink()
    with pytest.raises(DataError, match=r"tiny.*eval_args"):
        training_split(tiny.config())


def test_a_million_interactions_take_less_than_two_seconds():
    n_users, n_items, n = 6_000, 4_000, 1_000_000
    rng = np.random.default_rng(0)
    feat = {
        "user_id": torch.from_numpy(rng.integers(1, n_users, n)),
        "item_id": torch.from_numpy(rng.integers(1, n_items, n)),
        "rating": torch.from_numpy(rng.integers(1, 6, n).astype(np.float32)),
        "timestamp": torch.from_numpy(rng.random(n, dtype=np.float32)),
    }
    tokens = {
        "user_id": np.array(["[PAD]", *map(str, range(1, n_users))]),
        "item_id": np.array(["[PAD]", *map(str, range(1, n_items))]),
    }
    config = {"profile_rating_field": None, "RATING_FIELD": "rating", "LIST_SUFFIX": "_list"}
    dataset = SimpleNamespace(
        uid_field="user_id",
        iid_field="item_id",
        time_field="timestamp",
        label_field="label",
        field2type={},
        field2source={},
        config={**config, "ITEM_LIST_LENGTH_FIELD": "item_length"},
        inter_feat=feat,
        field2id_token=tokens,
        num=lambda field: len(tokens[field]),
    )
    start = time.process_time()
    histories = training_histories(dataset)
    digests = histories.digests()
    assert time.process_time() - start < 2
    mine = feat["item_id"][feat["user_id"] == 77].numpy()
    assert digests["77"] == history_digest(map(str, mine))


def test_interactions_are_ordered_by_user_then_time_then_row():
    rng = np.random.default_rng(1)
    users = rng.integers(1, 20, 500)
    times = rng.integers(0, 9, 500).astype(np.float32)
    times[::50] = np.nan
    order = history._by_user(users, times)
    assert order.tolist() == np.lexsort((times, users)).tolist() and order.dtype == np.int32
    assert history._by_user(users, None).tolist() == np.argsort(users, kind="stable").tolist()


def test_odd_ids_keep_their_letters_where_recbole_keeps_them(make_dataset):
    """RecBole takes pandas' words for missing values as such, and leaves those rows out."""
    names = ["NaN", "null", "None", "NA", "1e5", "007", "x\u00a0", "inf", "True", "u9"]
    dataset = make_dataset(n_users=len(names), user=names.__getitem__)
    digests = training_histories(training_split(dataset.config())).digests()
    words = {"None"} if pd.__version__ < "2" else set()  # a missing value since pandas 2
    assert set(digests) == words | set(names[4:])
    ids = {token: token for token in digests}
    assert ids["007"] == "007" and ids["x\u00a0"].endswith("\u00a0")


def test_a_lone_surrogate_in_an_id_has_a_digest():
    assert history_digest(["\ud83d"]) != history_digest(["?"])
    assert history_digest(["a", "ü"]) == hashlib.blake2b("a\nü".encode(), digest_size=8).hexdigest()
