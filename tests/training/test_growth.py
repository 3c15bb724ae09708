"""Weights of a checkpoint in a model with more rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recbole.model.layers import FMEmbedding
from torch import nn

from recbole_llmkt.datasets.vocabulary import Vocabulary
from recbole_llmkt.training.growth import check_growth, grown_checkpoint
from recbole_llmkt.utils.exceptions import DataError


def tokens(*names):
    return np.array(["[PAD]", *names])


BEFORE = Vocabulary({"user": tokens("a", "b"), "item": tokens("x", "y", "z"), "kind": tokens("k")})


class Data:
    uid_field, iid_field = "user", "item"
    entity_field = None
    field2id_token = BEFORE.grown({"user": ["c"], "item": ["w", "v"], "kind": ["l"]}).tokens


class Model(nn.Module):
    """Tables of every kind, numbered so that each row is recognised."""

    token_field_names = ("user", "item", "kind")

    def __init__(self, vocabulary, start, width=2):
        super().__init__()
        sizes = {name: len(names) for name, names in vocabulary.items()}
        users, items = sizes["user"], sizes["item"]
        self.users = nn.Embedding(users, width)
        self.with_mask = nn.Embedding(items + 1, width)
        self.nodes = nn.Parameter(torch.zeros(users + items, width))
        self.matrix = nn.Parameter(torch.zeros(users, items))
        offsets = np.array((0, users, users + items))
        self.token_embedding_table = FMEmbedding(list(sizes.values()), offsets, width)
        self.register_buffer("counts", torch.zeros(users, dtype=torch.int64))
        for parameter in self.parameters():
            parameter.data = start + torch.arange(parameter.numel()).view(parameter.shape).float()


def fitted(before, now):
    checkpoint = {
        "state_dict": before.state_dict(),
        "other_parameter": {"restore_user_e": torch.zeros(3), "steps": 4},
        "transfer": {"clusters": {"x": torch.zeros(3)}},
    }
    return grown_checkpoint(checkpoint, now, BEFORE, Data(), "old.pth")


def test_every_known_row_is_the_checkpoints_and_new_ones_are_the_models():
    old, new = Model(BEFORE.tokens, 0), Model(Data.field2id_token, 1000)
    made = fitted(old, new)
    state = made["state_dict"]
    assert torch.equal(state["users.weight"][:3], old.users.weight)
    assert torch.equal(state["users.weight"][3:], new.users.weight[3:])
    masked = state["with_mask.weight"]
    assert torch.equal(masked[[0, 1, 2, 3, 6]], old.with_mask.weight)  # the mask token stays last
    assert torch.equal(masked[4:6], new.with_mask.weight[4:6])
    assert torch.equal(state["nodes"][[0, 1, 2, 4, 5, 6, 7]], old.nodes)
    assert torch.equal(state["matrix"][:3, :4], old.matrix)
    assert torch.equal(state["matrix"][3], new.matrix[3])
    table = state["token_embedding_table.embedding.weight"]
    rows = [0, 1, 2, 4, 5, 6, 7, 10, 11]
    assert torch.equal(table[rows], old.token_embedding_table.embedding.weight)
    assert state["counts"].shape == (4,)
    assert made["other_parameter"] == {"restore_user_e": None, "steps": 4}
    assert made["transfer"]["clusters"] == {}


def test_what_tokens_do_not_explain_is_one_line():
    wide = Model(Data.field2id_token, 0, width=5)
    with pytest.raises(DataError, match=r"has the shape \(\d+, 2\) .*\(\d+, 5\) here"):
        fitted(Model(BEFORE.tokens, 0), wide)
    other = Model(Data.field2id_token, 0)
    other.extra = nn.Linear(2, 2)
    with pytest.raises(DataError, match=r"only the model has the parameter 'extra\.bias'"):
        fitted(Model(BEFORE.tokens, 0), other)


def test_new_items_of_a_knowledge_graph_are_refused():
    data = Data()
    data.entity_field = "entity"
    check_growth(data, {"user": ["c"]}, "old.pth")
    with pytest.raises(DataError, match=r"1 items are new, 'w' for one: train from the start"):
        check_growth(data, {"item": ["w"]}, "old.pth")
