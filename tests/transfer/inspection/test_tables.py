"""Tables of users and items in a model's parameters."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from recbole_llmkt.transfer.inspection.tables import (
    EntityTable,
    TableFinder,
    find_tables,
    wide_tables,
)
from recbole_llmkt.utils.exceptions import LayerError
from tests.helpers import prepare


def test_rows_are_views_by_id_along_either_axis():
    parameters = {"w": torch.arange(12.0).view(3, 4), "b": torch.arange(4.0)}
    assert EntityTable("w", "item", 2, offset=1).rows(parameters).tolist() == [
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    ]
    columns = EntityTable("w", "user", 3, axis=1, offset=1)
    assert columns.rows(parameters).tolist() == [[1, 5, 9], [2, 6, 10], [3, 7, 11]]
    assert EntityTable("b", "item", 2).rows(parameters).tolist() == [[0], [1]]
    columns.rows(parameters)[0] = -1
    assert parameters["w"][:, 1].tolist() == [-1, -1, -1]
    assert str(columns) == "w[:, 1..3] (user)"


@pytest.fixture
def run(make_dataset):
    return prepare(make_dataset(n_users=12, n_items=20, per_user=(10, 15)).config(kt_enabled=False))


def names(tables):
    return {entity: [str(table) for table in listed] for entity, listed in tables.items()}


USERS, ITEMS = "user_embedding.weight[0..12] (user)", "item_embedding.weight[0..20] (item)"


def test_tables_are_known_by_the_ids_that_they_are_asked_for(run):
    run.model.user_unused = nn.Embedding(13, 4)  # of the size, but no step uses it
    finder = TableFinder(run.model, run.train_data)
    assert names(find_tables(finder, ["user", "item"], "auto")) == {
        "user": [USERS],
        "item": [ITEMS],
    }
    assert names(find_tables(finder, ["item"], ["*embedding*", "item:item_*"])) == {"item": [ITEMS]}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("mlp*", r"'mlp\*' matches no table .* Found automatically: user_embedding"),
        ("film:user_*", "must begin with user: or item:"),
        ("item:user_embedding.weight", r"has the shape \(13, 8\), but there are 21 items"),
    ],
)
def test_patterns_that_name_no_table(run, pattern, message):
    finder = TableFinder(run.model, run.train_data)
    with pytest.raises(LayerError, match=message):
        find_tables(finder, ["user", "item"], pattern)


def test_narrow_tables_are_left_out_with_a_warning_and_none_at_all_is_an_error(caplog):
    model = nn.Linear(1, 1)
    model.users = nn.Parameter(torch.zeros(4, 1))
    model.items = nn.Parameter(torch.zeros(5, 3))
    tables = {"user": [EntityTable("users", "user", 4)], "item": [EntityTable("items", "item", 5)]}
    with caplog.at_level(logging.WARNING):
        assert wide_tables(model, tables, 2) == {"item": tables["item"]}
    assert "Linear has no table of users: none is written." in caplog.text
    assert list(wide_tables(model, tables)) == ["user", "item"]
    with pytest.raises(LayerError, match=r"Linear has no table .* items \(5, 3\)"):
        wide_tables(model, tables, 4)
