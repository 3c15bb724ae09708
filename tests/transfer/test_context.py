"""What the methods of a run share is found out once."""

from __future__ import annotations

import pytest

from recbole_llmkt.transfer import context as module
from recbole_llmkt.transfer.context import RunContext, entities_of
from recbole_llmkt.utils.exceptions import LayerError
from tests.helpers import prepare


@pytest.mark.parametrize(
    ("setting", "entities"),
    [
        ("both", ["user", "item"]),
        ("item", ["item"]),
        (["item", "user", "item"], ["item", "user"]),
    ],
)
def test_entities_of_a_setting(setting, entities):
    assert entities_of(setting) == entities


@pytest.fixture
def run(make_dataset):
    dataset = make_dataset(n_users=6, n_items=9, per_user=(5, 6))
    return prepare(dataset.config(kt_enabled=False, kt_entity="both"))


def test_the_model_is_inspected_once_whatever_is_asked(run, monkeypatch):
    made = []
    finder = module.TableFinder
    monkeypatch.setattr(
        module, "TableFinder", lambda *arguments: made.append(1) or finder(*arguments)
    )
    context = RunContext(run.config, run.model, run.train_data)
    assert [str(table) for table in context.tables(["user"])["user"]] == [
        "user_embedding.weight[0..6] (user)"
    ]
    assert list(context.written_tables()) == ["user", "item"]
    assert made == [1]
    assert context.places is context.places


def test_no_table_is_wide_enough(run):
    context = RunContext(run.config, run.model, run.train_data)
    assert list(context.written_tables(min_width=8)) == ["user", "item"]
    with pytest.raises(LayerError, match="BPR has no table with a row for every user or item"):
        context.written_tables(min_width=9)
