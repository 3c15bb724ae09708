"""What a model reads of a user; test_rank.py compares it with RecBole's own test rows."""

from __future__ import annotations

import numpy as np

from recbole_llmkt.quick_start import train
from recbole_llmkt.recommend.rank import Ranker
from tests.helpers import LABELED
from tests.recommend.test_rank import SEQUENTIAL


def inputs_of(dataset, model, **keys):
    config = dataset.config(model, kt_enabled=False, epochs=1, **keys)
    return Ranker(train(config, verbose=False)["checkpoint"]).inputs


def test_a_general_model_reads_the_id_alone(make_dataset):
    inputs = inputs_of(make_dataset(), "BPR")
    assert not inputs.is_sequential and inputs.context_fields == []
    rows = inputs.of(np.array([3, 1]))
    assert rows["user_id"].tolist() == [3, 1] and list(rows.columns) == ["user_id"]


def test_the_latest_of_several_interactions_counts_whatever_the_order(make_dataset):
    dataset = make_dataset()
    inputs = inputs_of(dataset, "FM", **LABELED)
    last = inputs.of(np.arange(1, 31))["timestamp"]
    parts = [(part.inter_feat["user_id"], part.inter_feat["timestamp"]) for part in inputs._parts]
    for user in range(1, 31):
        times = [times[users == user].max() for users, times in parts if (users == user).any()]
        assert last[user - 1] == max(times)


def test_a_sequential_model_reads_the_items_that_came_last(make_dataset):
    inputs = inputs_of(make_dataset(), "SASRec", **SEQUENTIAL)
    assert inputs.is_sequential
    rows = inputs.of(np.array([1, 2]))
    valid = inputs._parts[1].inter_feat
    for row, user in enumerate((1, 2)):
        position = int(rows["item_length"][row]) - 1
        latest = valid["item_id"][valid["user_id"] == user]
        assert rows["item_id_list"][row][position] == latest[-1]
