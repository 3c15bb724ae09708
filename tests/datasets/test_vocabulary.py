"""Rows by token: whatever the order of the files, whoever left or came."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmkt.checkpoints import load_checkpoint
from recbole_llmkt.datasets.vocabulary import Vocabulary, _saved_order
from recbole_llmkt.quick_start import load_data_and_model, train
from recbole_llmkt.recommend.rank import Ranker
from recbole_llmkt.utils.exceptions import DataError
from tests.helpers import prepare, ranked_pairs

RANDOM_SPLIT = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "group_by": None, "mode": "full"}
LAST_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}
MODELS = {
    "BPR": {},
    "LightGCN": {"n_layers": 2},
    "MultiVAE": {"mlp_hidden_size": [8], "latent_dimension": 4},
    "EASE": {},
    "NeuMF": {},
    "DeepFM": {"threshold": {"rating": 3}, "train_neg_sample_args": None, "metrics": ["AUC"]},
    "CKE": {},
    "KGCN": {},
    "SASRec": {"train_neg_sample_args": None, "eval_args": LAST_OUT, "MAX_ITEM_LIST_LENGTH": 8},
}
for key in ("DeepFM",):
    MODELS[key] |= {"valid_metric": "AUC", "eval_args": {**RANDOM_SPLIT, "mode": "labeled"}}
MODELS["SASRec"] |= {"n_layers": 1, "n_heads": 1, "hidden_size": 8, "inner_size": 8}


def fit(dataset, model="BPR", **keys):
    keys = {"kt_enabled": False, "epochs": 2, "eval_args": RANDOM_SPLIT, **MODELS[model], **keys}
    return train(dataset.config(model, **keys), verbose=False)["checkpoint"]


def lists(checkpoint, users=None):
    """Return each user's recommended items and scores, by token."""
    ranker = Ranker(checkpoint)
    ids = ranker.all_user_ids() if users is None else ranker.user_ids(users)
    ranked = ranked_pairs(ranker, ids, 5)
    return {
        token: [(ranker.tokens("item", [item])[0], score) for item, score in pairs]
        for token, pairs in zip(ranker.tokens("user", ids), ranked)
    }


def rewrite(dataset, change):
    """Change the lines of the interactions, header apart."""
    path = dataset.folder / f"{dataset.name}.inter"
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *change(lines)]) + "\n")


def shuffled(lines, seed=5):
    return random.Random(seed).sample(lines, len(lines))


@pytest.mark.parametrize("model", [name for name in MODELS if name not in ("CKE", "KGCN")])
def test_the_order_of_the_lines_does_not_count(make_dataset, model):
    dataset = make_dataset()
    checkpoint = fit(dataset, model)
    before = lists(checkpoint)
    assert len(before) == 30
    for change in (sorted, shuffled):
        rewrite(dataset, change)
        assert lists(checkpoint) == before


def test_a_column_of_items_keeps_its_numbers(make_dataset):
    """A context-aware model has a row for each genre, and genres are numbered as items are."""
    dataset = make_dataset()
    genres = [f"i{n}\tgenre {n % 7} and {n % 3}" for n in range(40)]
    path = dataset.folder / "tiny.item"
    path.write_text("item_id:token\tgenre:token_seq\n" + "\n".join(genres) + "\n")
    load_col = {
        "inter": ["user_id", "item_id", "rating", "timestamp"],
        "item": ["item_id", "genre"],
    }
    checkpoint = fit(dataset, "DeepFM", load_col=load_col)
    before = lists(checkpoint)
    genres[3] += " unheard"
    path.write_text("item_id:token\tgenre:token_seq\n" + "\n".join(reversed(genres)) + "\n")
    rewrite(dataset, sorted)
    assert lists(checkpoint) == before


@pytest.mark.parametrize("model", ["CKE", "KGCN"])
def test_a_knowledge_graph_keeps_its_numbers(make_dataset, model):
    dataset = make_dataset()
    links = [f"i{n}\tm{n}" for n in range(0, 40, 2)]  # some items have no entity: they are left out
    facts = [f"m{n}\tgenre\tg{n % 3}" for n in range(0, 40, 2)]
    facts += [f"m{n}\tcast\ta{n % 5}" for n in range(0, 40, 2)]

    def write(order):
        for suffix, header, lines in (
            ("link", "item_id:token\tentity_id:token", links),
            ("kg", "head_id:token\trelation_id:token\ttail_id:token", facts),
        ):
            path = dataset.folder / f"{dataset.name}.{suffix}"
            path.write_text("\n".join([header, *order(lines)]) + "\n")

    write(list)
    load_col = {
        "inter": ["user_id", "item_id", "rating", "timestamp"],
        "kg": ["head_id", "relation_id", "tail_id"],
        "link": ["item_id", "entity_id"],
    }
    checkpoint = fit(dataset, model, load_col=load_col, embedding_size=8, kg_embedding_size=8)
    before = lists(checkpoint)
    write(sorted)
    rewrite(dataset, sorted)
    assert lists(checkpoint) == before


@pytest.mark.parametrize("model", ["BPR", "MultiVAE", "SASRec"])
def test_who_leaves_takes_their_rows_along(make_dataset, model, caplog):
    dataset = make_dataset()
    time_split = {**RANDOM_SPLIT, "order": "TO", "group_by": "user"}
    keys = {} if model == "SASRec" else {"eval_args": time_split}
    checkpoint = fit(dataset, model, **keys)
    before = lists(checkpoint)
    first = dataset.rows[0][0]  # the one with row 1

    def without(lines):
        return shuffled([line for line in lines if not line.startswith(f"{first}\t")])

    rewrite(dataset, without)
    after = lists(checkpoint)
    assert {*after} == {*before} - {first}
    for user, ranked in after.items():  # a batch of another size may round otherwise
        assert [item for item, _ in ranked] == [item for item, _ in before[user]]
        scores = [score for _, score in before[user]]
        assert [score for _, score in ranked] == pytest.approx(scores, rel=1e-5)
    with pytest.raises(DataError, match=f"'{first}': no such user"):
        Ranker(checkpoint).user_ids([first])


def test_an_item_that_left_is_not_recommended(make_dataset):
    dataset = make_dataset()
    time_split = {**RANDOM_SPLIT, "order": "TO", "group_by": "user"}
    checkpoint = fit(dataset, eval_args=time_split)
    gone = lists(checkpoint)["u3"][0][0]
    rewrite(dataset, lambda lines: [line for line in lines if f"\t{gone}\t" not in line])
    for ranked in lists(checkpoint).values():
        assert gone not in [item for item, _ in ranked]
    assert Ranker(checkpoint).n_items == 39


def test_who_comes_is_named_and_costs_nobody_else(make_dataset, caplog):
    dataset = make_dataset()
    time_split = {**RANDOM_SPLIT, "order": "TO", "group_by": "user"}
    checkpoint = fit(dataset, eval_args=time_split)
    before = lists(checkpoint)
    more = ["newcomer\ti1\t3\t5", "newcomer\ti2\t3\t6", "newcomer\ti3\t3\t7", "u3\tnovelty\t4\t1"]
    rewrite(dataset, lambda lines: more + shuffled(lines))
    assert lists(checkpoint) == before
    assert "user_id: 1 ('newcomer') is new" in caplog.text
    assert "item_id: 1 ('novelty') is new" in caplog.text
    with pytest.raises(DataError, match=r"'newcomer': new since this BPR was trained"):
        Ranker(checkpoint).user_ids(["u3", "newcomer"])


def test_another_filter_leaves_rows_by_token(make_dataset):
    dataset = make_dataset()
    checkpoint = fit(dataset)
    saved = load_checkpoint(checkpoint)
    names = Vocabulary.unpack(saved["transfer"]["ids"], checkpoint).tokens["user_id"]
    table = saved["state_dict"]["user_embedding.weight"]
    saved["config"]["user_inter_num_interval"] = "[12,inf)"
    torch.save(saved, "filtered.pth")
    _, model, whole, *_ = load_data_and_model("filtered.pth")
    rows = dict(zip(whole.field2id_token["user_id"], model.user_embedding.weight))
    assert 0 < len(set(whole.inter_feat["user_id"].tolist())) < 30
    for row, token in enumerate(names):
        assert torch.equal(rows[token], table[row])


def test_any_order_of_the_files_and_any_filter_keep_what_belongs_to_a_token(make_dataset):
    dataset = make_dataset()
    lines = {"inter": ["\t".join(map(str, row)) for row in dataset.rows]}
    for suffix, prefix, count in (("user", "u", 30), ("item", "i", 40)):
        lines[suffix] = [f"{prefix}{number}\t{number % 5}" for number in range(count)]
        header = f"{suffix}_id:token\t{suffix}_kind:token"
        (dataset.folder / f"tiny.{suffix}").write_text("\n".join([header, *lines[suffix]]) + "\n")
    load_col = {
        "inter": ["user_id", "item_id", "rating", "timestamp"],
        "user": ["user_id", "user_kind"],
        "item": ["item_id", "item_kind"],
    }
    narrow = {"user_inter_num_interval": "[12,inf)", "item_inter_num_interval": "[6,inf)"}
    checkpoint = fit(dataset, load_col=load_col, **narrow)
    recommended, scores = lists(checkpoint), scores_by_token(Ranker(checkpoint))
    assert 0 < len(recommended) < 30

    @settings(max_examples=8, deadline=None, derandomize=True)
    @given(
        orders=st.fixed_dictionaries({name: st.permutations(rows) for name, rows in lines.items()}),
        fewest=st.tuples(st.integers(0, 13), st.integers(0, 7)),
    )
    def check(orders, fewest):
        for suffix, rows in orders.items():
            path = dataset.folder / f"tiny.{suffix}"
            header = path.read_text().splitlines()[0]
            path.write_text("\n".join([header, *rows]) + "\n")
        assert lists(checkpoint) == recommended
        filters = {
            f"{entity}_inter_num_interval": f"[{count},inf)"
            for entity, count in zip(("user", "item"), fewest)
        }
        filtered = scores_by_token(Ranker(checkpoint, filters))
        assert filtered and filtered.items() <= scores.items()

    check()


def scores_by_token(ranker):
    """Return the score of each pair of a user and an item that can be recommended."""
    users, items = ranker.all_user_ids(), ranker.all_item_ids()
    with torch.no_grad():
        table = ranker.scores(np.array(users)).numpy()
    return {
        (user, item): table[row, column]
        for row, user in enumerate(ranker.tokens("user", users))
        for column, item in zip(items, ranker.tokens("item", items))
    }


def test_resuming_and_testing_with_data_in_another_order_is_refused(tiny):
    run = prepare(tiny.config("BPR", epochs=4))
    run.fit(saved=True)
    file = run.trainer.saved_model_file
    shutil.copy(file, "kept.pth")
    rewrite(tiny, sorted)
    other = prepare(tiny.config("BPR", epochs=6))
    with pytest.raises(DataError, match=r"kept\.pth.* ids other than .*row 1 of 'user_id'"):
        other.trainer.evaluate(other.test_data, model_file="kept.pth")
    other.trainer.resume_checkpoint("kept.pth")
    with pytest.raises(DataError, match="restore the atomic files"):
        other.fit()


def test_a_checkpoint_without_ids_is_refused(tiny):
    run = prepare(tiny.config("BPR", epochs=2))
    run.fit(saved=True)
    checkpoint = load_checkpoint(run.trainer.saved_model_file)
    del checkpoint["transfer"]["ids"]
    torch.save(checkpoint, "old.pth")
    with pytest.raises(DataError, match="does not say which row belongs to which"):
        load_data_and_model("old.pth")


@pytest.mark.parametrize("tokens", [["é", "a b", "\u00a0", "NaN", "\ud800"], []])
def test_packed_tokens_come_back(tokens):
    names = np.array(["[PAD]", *tokens])
    vocabulary = Vocabulary({"a": names, "b": names}, {"inter_feat": np.arange(3)})
    torch.save(vocabulary.pack(), "packed.pth")
    packed = torch.load("packed.pth", weights_only=True)
    assert packed["tokens"]["b"] == {"same_as": "a"}
    again = Vocabulary.unpack(packed, "packed.pth")
    assert all(again.tokens[name].tolist() == names.tolist() for name in "ab")
    assert again.rows["inter_feat"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "packed",
    [
        None,
        [],
        {"tokens": {}},
        {"tokens": {"a": {"same_as": "b"}}, "rows": {}},
        {"tokens": {"a": {"bytes": torch.arange(3), "lengths": torch.tensor([3])}}, "rows": {}},
        {"tokens": {"a": 1}, "rows": {}},
        {"tokens": {}, "rows": {"inter_feat": torch.zeros(2, 2)}},
        {"tokens": {}, "rows": {"inter_feat": "x"}},
    ],
)
def test_damaged_ids(packed):
    with pytest.raises(DataError, match=r"ids in the checkpoint 'some\.pth' cannot be read"):
        Vocabulary.unpack(packed, "some.pth")


def test_rows_go_back_to_their_places():
    saved, today = np.array([5, 3, 5, 9]), np.array([9, 5, 7, 5, 3])
    order = _saved_order(saved, today)
    assert today[order].tolist() == [5, 3, 5, 9, 7]
    assert order.tolist() == [1, 4, 3, 0, 2]
    # Two files, of three and two rows.
    assert _saved_order(saved, today, [3, 2]).tolist() == [1, 0, 2, 4, 3]
