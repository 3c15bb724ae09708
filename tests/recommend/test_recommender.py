"""Recommendations put together from ranks, titles and reasons."""

from __future__ import annotations

from typing import ClassVar

import pytest

from recbole_llmkt.datasets.metadata import ItemMetadata
from recbole_llmkt.quick_start import train
from recbole_llmkt.recommend import Recommender, recommender
from recbole_llmkt.recommend.explain import Explanation, Reason
from recbole_llmkt.recommend.rank import Ranked
from recbole_llmkt.utils.exceptions import ConfigError, DataError


class FakeRanker:
    """Rank item 2 before item 1 for everybody; user 9 knows all but one item."""

    config = None

    def __init__(self, *arguments):
        pass

    def rank(self, user_ids, topk, allowed):
        for user_id in user_ids:
            count = 1 if user_id == 9 else topk
            yield Ranked([count], [2, 1][:count], [0.5, 0.25][:count])

    def check_topk(self, topk):
        assert topk == 2

    def user_ids(self, tokens):
        return [int(token[1:]) for token in tokens]

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


@pytest.fixture
def fakes(monkeypatch):
    monkeypatch.setattr(FakeExplainer, "calls", [])
    monkeypatch.setattr(recommender, "Explainer", FakeExplainer)
    monkeypatch.setattr(recommender, "Ranker", FakeRanker)
    titles = {
        "i1": ItemMetadata(title="A film", categories=(), text="", other={}),
        "i2": ItemMetadata(title="", categories=(), text="", other={}),
    }
    monkeypatch.setattr(recommender, "read_item_metadata", lambda config: titles)


def test_items_keep_their_order_scores_and_reasons(fakes):
    (made,) = Recommender("x.pth").top_k(["u3"], k=2, reasons=1)
    assert made.user == "u3"
    assert [(item.token, item.title, item.score) for item in made.items] == [
        ("i2", "i2", 0.5),  # no title: the token
        ("i1", "A film", 0.25),
    ]
    reasons = [item.explanation.reasons[0].sentence for item in made.items]
    assert reasons == ["u3 i2", "u3 i1"]


def test_users_are_explained_block_by_block_and_none_is_lost(fakes, monkeypatch):
    monkeypatch.setattr(recommender, "_BLOCK", 2)
    made = list(Recommender("x.pth").top_k(["u1", "u9", "u3", "u4", "u5"], k=2, reasons=1))
    assert [each.user for each in made] == ["u1", "u9", "u3", "u4", "u5"]
    assert [len(each.items) for each in made] == [2, 1, 2, 2, 2]
    assert FakeExplainer.calls == [["u1", "u9"], ["u3", "u4"], ["u5"]]


def test_without_reasons_nothing_is_encoded(fakes):
    (made,) = Recommender("x.pth").top_k(["u3"], k=2)
    assert FakeExplainer.calls == []
    assert [item.explanation for item in made.items] == [Explanation(), Explanation()]


def test_without_titles_items_are_shown_by_their_ids(fakes, monkeypatch, caplog):
    def missing(config):
        raise DataError("There is no .item file.")

    monkeypatch.setattr(recommender, "read_item_metadata", missing)
    (made,) = Recommender("x.pth").top_k(["u3"], k=2)
    assert [item.title for item in made.items] == ["i2", "i1"]
    assert "Items are shown by id. There is no .item file." in caplog.text


def test_filters_choose_among_the_items(make_dataset):
    dataset = make_dataset()
    shelf = {f"i{n}": ("Books", "Music", "Books Music")[n % 3] for n in range(40)}
    lines = [f"{token}\t{names}\t{token[1:]}" for token, names in shelf.items()]
    header = "item_id:token\tcategory:token_seq\tprice:float"
    (dataset.folder / "tiny.item").write_text("\n".join([header, *lines]) + "\n")
    result = train(dataset.config(kt_enabled=False, epochs=1), verbose=False)
    shop = Recommender(result["checkpoint"])
    assert len(shop.users) == 30 and len(shop.items) == 40
    plain = {each.user: each for each in shop.top_k(k=40)}
    filtered = list(shop.top_k(k=40, filters=["category=Books", "price>=10"]))
    assert [each.user for each in filtered] == shop.users
    for each in filtered:
        wanted = [
            (item.token, pytest.approx(item.score, rel=1e-5))
            for item in plain[each.user].items
            if "Books" in shelf[item.token] and int(item.token[1:]) >= 10
        ]
        assert [(item.token, item.score) for item in each.items] == wanted
    for bad, error, message in (
        (["category"], ConfigError, "write COLUMN=VALUE"),
        (["shelf=Books"], DataError, "no column 'shelf'"),
        (["category=Shoes"], DataError, "No item of .* meets category=Shoes"),
    ):
        with pytest.raises(error, match=message):
            shop.top_k(filters=bad)
    with pytest.raises(ConfigError, match="catalogue has only 40 items"):
        shop.top_k(k=41)
    with pytest.raises(DataError, match="'nobody': no such user"):
        shop.top_k(["nobody"])
