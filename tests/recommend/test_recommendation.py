"""Recommendations put together from ranks, titles and reasons."""

from __future__ import annotations

from typing import ClassVar

import pytest

from recbole_llmkt.datasets.metadata import ItemMetadata
from recbole_llmkt.recommend import recommendation
from recbole_llmkt.recommend.explain import Explanation, Reason
from recbole_llmkt.recommend.recommendation import recommend
from recbole_llmkt.utils.exceptions import DataError


class FakeRanker:
    """Rank item 2 before item 1 for everybody; user 9 knows all but one item."""

    config = None

    def rank(self, user_ids, topk):
        for user_id in user_ids:
            ranked = [(2, 0.5), (1, 0.25)]
            yield ranked[:1] if user_id == 9 else ranked[:topk]

    def tokens(self, entity, ids):
        return [f"{entity[0]}{number}" for number in ids]


class FakeExplainer:
    calls: ClassVar[list[list[str]]] = []

    def __init__(self, config, n_reasons):
        self.n_reasons = n_reasons

    def explain(self, tokens):
        self.calls.append(list(tokens))
        return {
            user: [Explanation((Reason(f"{user} {item}", 1.0),)) for item in items]
            for user, items in tokens.items()
        }


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    monkeypatch.setattr(FakeExplainer, "calls", [])
    monkeypatch.setattr(recommendation, "Explainer", FakeExplainer)
    titles = {
        "i1": ItemMetadata(title="A film", categories=(), text="", other={}),
        "i2": ItemMetadata(title="", categories=(), text="", other={}),
    }
    monkeypatch.setattr(recommendation, "read_item_metadata", lambda config: titles)


def test_items_keep_their_order_scores_and_reasons():
    (made,) = recommend(FakeRanker(), [3], topk=2)
    assert made.user == "u3"
    assert [(item.token, item.title, item.score) for item in made.items] == [
        ("i2", "i2", 0.5),  # no title: the token
        ("i1", "A film", 0.25),
    ]
    reasons = [item.explanation.reasons[0].sentence for item in made.items]
    assert reasons == ["u3 i2", "u3 i1"]


def test_users_are_explained_block_by_block_and_none_is_lost(monkeypatch):
    monkeypatch.setattr(recommendation, "_BLOCK", 2)
    made = list(recommend(FakeRanker(), [1, 9, 3, 4, 5], topk=2))
    assert [one.user for one in made] == ["u1", "u9", "u3", "u4", "u5"]
    assert [len(one.items) for one in made] == [2, 1, 2, 2, 2]
    assert FakeExplainer.calls == [["u1", "u9"], ["u3", "u4"], ["u5"]]


def test_without_titles_items_are_shown_by_their_ids(monkeypatch, caplog):
    def missing(config):
        raise DataError("There is no .item file.")

    monkeypatch.setattr(recommendation, "read_item_metadata", missing)
    (made,) = recommend(FakeRanker(), [3], topk=2)
    assert [item.title for item in made.items] == ["i2", "i1"]
    assert "Items are shown by their ids. There is no .item file." in caplog.text
