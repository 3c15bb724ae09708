"""Ranking by blocks of users x items: the same scores as pair by pair, or not at all."""

from __future__ import annotations

import pytest
import torch
from recbole.data.interaction import Interaction
from torch import nn

from recbole_llmkt.compat import create_dataset, data_preparation
from recbole_llmkt.evaluation import pairs
from recbole_llmkt.evaluation.pairs import NotPairwiseError, PairRanker, Pairs
from recbole_llmkt.quick_start import train
from recbole_llmkt.training.factory import build_model

GRID = (3, 4)
USERS = torch.tensor([5, 1, 2])
ITEMS = torch.arange(4)


@pytest.fixture
def rows():
    """Return rows of users and items of width 6 and 2, by axes and repeated."""
    torch.manual_seed(1)
    users, items = torch.randn(3, 6), torch.randn(4, 2)
    by_axes = Pairs([users[:, None]], GRID), Pairs([items[None]], GRID)
    return by_axes, (users.repeat_interleave(4, 0), items.repeat(3, 1))


def repeated(rows):
    return rows.whole.expand(*GRID, *rows.whole.shape[2:]).reshape(rows.shape)


LAYER, WIDE = nn.Linear(8, 5), nn.Linear(8, 6)
OPERATIONS = {
    "a layer over both": lambda u, i: LAYER(torch.cat((u, i), -1)),
    "layers": lambda u, i: torch.relu(LAYER(torch.cat((i, u), 1))).sum(-1),
    "joined twice": lambda u, i: WIDE(torch.cat((u, i), -1)) * u + 2.0,
    "arithmetic": lambda u, i: -(u.sum(-1) / 2 - i.sum(1) ** 2) + 1.0 * i.sum(1),
    "axes": lambda u, i: torch.bmm(i.unsqueeze(2), u.unsqueeze(1)).sum(dim=(1, 2)).sigmoid(),
    "softmax": lambda u, i: torch.softmax(torch.cat((u, i), dim=1), -1),
    "further axes": lambda u, i: torch.cat((u.unsqueeze(1), u.unsqueeze(1) * 2), 1),
    "outside": lambda u, i: u + torch.arange(6.0),
    "dropout": lambda u, i: nn.Dropout(0.5).eval()(u) + i.sum(-1).unsqueeze(-1),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_axes_give_what_repeated_rows_give(rows, name):
    by_axes, by_row = (OPERATIONS[name](*sides) for sides in rows)
    assert by_axes.shape == by_row.shape
    torch.testing.assert_close(repeated(by_axes), by_row)


@pytest.mark.parametrize(
    "operation",
    [
        lambda u, i: u.sum(0),
        lambda u, i: u.sum(),
        lambda u, i: torch.softmax(u, 0),
        lambda u, i: u.sum(-1) + torch.arange(12.0),  # a value for each row
        lambda u, i: u.sum(-1) + i,  # would be another shape
        lambda u, i: torch.cat((u, u), 0),
        lambda u, i: u.cumsum(0),
        lambda u, i: torch.flip(u, (0,)),
        lambda u, i: nn.Dropout(0.5)(u),
        lambda u, i: u.no_such_method(),
    ],
)
def test_what_mixes_rows_is_refused(rows, operation):
    with pytest.raises((NotPairwiseError, AttributeError, RuntimeError)):
        operation(*rows[0])


@pytest.fixture
def ranked(tiny):
    """Return what makes a model, its users and items."""

    def make(name, **keys):
        config = tiny.config(name, **{"kt_fast_ranking": True, **keys})
        train_data, *_ = data_preparation(config, create_dataset(config))
        model = build_model(config, train_data._dataset).eval()
        items = train_data._dataset.get_item_feature()
        return model, PairRanker(config, model, items), items

    return make


def pair_by_pair(model, users, items):
    rows = users.repeat_interleave(len(items))
    rows.update(items.repeat(len(users)))
    return model.predict(rows).view(len(users), -1)


def test_neumf_has_the_same_scores(ranked):
    model, ranker, items = ranked("NeuMF")
    users = Interaction({"user_id": torch.tensor([3, 1, 7])})
    with torch.no_grad():
        scores = ranker.scores(users)
        torch.testing.assert_close(scores, pair_by_pair(model, users, items), rtol=0, atol=1e-6)
        with ranker.ranking(users):
            assert model.full_sort_predict(users) is not None
        with pytest.raises(NotImplementedError):
            model.full_sort_predict(users)


@pytest.mark.parametrize("users", [1, 4, 7])
def test_blocks_cover_all_pairs(ranked, monkeypatch, users):
    model, ranker, items = ranked("NeuMF")
    monkeypatch.setitem(pairs._SIDE, "cpu", 3)  # no divisor of the number of items
    chosen = Interaction({"user_id": torch.arange(1, users + 1)})
    with torch.no_grad():
        expected = pair_by_pair(model, chosen, items)
        torch.testing.assert_close(ranker.scores(chosen), expected, rtol=0, atol=1e-6)


def test_a_model_that_differs_keeps_recboles_way(ranked, monkeypatch):
    model, ranker, _ = ranked("NeuMF")
    own = type(model).predict
    shift = 1e-5  # of scores between 0 and 1

    def predict(self, interaction):
        scores = own(self, interaction)
        return scores + shift if isinstance(scores, Pairs) else scores

    monkeypatch.setattr(type(model), "predict", predict)
    users = Interaction({"user_id": torch.tensor([3])})
    with torch.no_grad():
        assert ranker.scores(users) is None
        with ranker.ranking(users), pytest.raises(NotImplementedError):
            model.full_sort_predict(users)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("BPR", {}),  # ranks by itself
        ("NeuMF", {"kt_fast_ranking": False}),
        ("NeuMF", {"kt_fast_ranking": None, "kt_enabled": False}),  # stock, bit for bit
    ],
)
def test_where_nothing_changes(ranked, name, keys):
    assert ranked(name, **keys)[1].scores(Interaction({"user_id": USERS})) is None


def test_a_run_has_the_same_metrics_and_ranks_by_blocks(tiny, monkeypatch):
    calls = []
    scores = PairRanker.scores
    monkeypatch.setattr(PairRanker, "scores", lambda *of: calls.append(scores(*of)) or calls[-1])
    results = [
        train(tiny.config("NeuMF", kt_fast_ranking=fast, epochs=2), saved=False)["test_result"]
        for fast in (False, None)
    ]
    assert results[0] == results[1]
    assert calls[0] is None and calls[-1] is not None
