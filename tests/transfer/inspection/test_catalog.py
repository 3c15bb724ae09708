"""What a model offers, and what the rule for a default makes of it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import nn

from recbole_llmkt.quick_start import load_data_and_model, run_recbole_llmkt
from recbole_llmkt.transfer.auxiliary.settings import default_layers
from recbole_llmkt.transfer.inspection.catalog import Place, automatic_layer, catalog
from recbole_llmkt.utils.exceptions import LayerError
from recbole_llmkt.utils.randomness import get_random_state
from tests.helpers import prepare


class Towers(GeneralRecommender):
    """A model of somebody's own: a tower for each side, and a layer that mixes them."""

    input_type = InputType.PAIRWISE

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.who = nn.Embedding(self.n_users, 6)
        self.what = nn.Embedding(self.n_items, 6)
        self.user_tower = nn.Sequential(nn.Linear(6, 12), nn.Tanh())
        self.item_tower = nn.Sequential(nn.Linear(6, 10), nn.Tanh())
        self.mixer = nn.Sequential(nn.Linear(22, 20), nn.ReLU(), nn.Linear(20, 1))
        self.popularity = nn.Linear(12, self.n_items)

    def score(self, users, items):
        both = torch.cat([self.user_tower(self.who(users)), self.item_tower(self.what(items))], 1)
        return self.mixer(both).squeeze(1)

    def calculate_loss(self, interaction):
        users = interaction[self.USER_ID]
        prior = self.popularity(self.user_tower(self.who(users))).square().mean()
        difference = self.score(users, interaction[self.ITEM_ID]) - self.score(
            users, interaction[self.NEG_ITEM_ID]
        )
        return -torch.nn.functional.logsigmoid(difference).mean() + 0.01 * prior

    def predict(self, interaction):
        return self.score(interaction[self.USER_ID], interaction[self.ITEM_ID])


class Narrow(Towers):
    """A model whose every hidden layer is one number wide."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.who, self.what = nn.Embedding(self.n_users, 1), nn.Embedding(self.n_items, 1)
        self.user_tower = self.item_tower = nn.Identity()
        self.popularity = nn.Linear(1, 1)

    def score(self, users, items):
        return (self.who(users) * self.what(items)).squeeze(1)


def places_of(dataset, model, **keys):
    ready = prepare(dataset.config(model, kt_enabled=False, **keys))
    return catalog(ready.model, ready.train_data)


def test_an_own_model_gets_its_towers(tiny):
    places = places_of(tiny, Towers)
    assert automatic_layer(places, "user") == "user_tower"
    assert automatic_layer(places, "item") == "item_tower"


def test_places_say_what_they_are(tiny):
    by_layer = {
        user_place.layer: user_place
        for user_place in places_of(tiny, Towers)
        if user_place.entity == "user"
    }
    tower = by_layer["user_tower"]
    assert (tower.kind, tower.shape, tower.rows) == ("output", "(B, 12)", "batch")
    assert (tower.pure, tower.width, tower.calls) == (True, 12, 3)
    assert tower.reach == 31 * 6 + 6 * 12 + 12
    assert by_layer["who.weight"].shape == "(U, 6)"
    assert by_layer["who"].rows == "lookup"
    # Scores of all items are no hidden state, and a state that mixes both is nobody's own.
    assert by_layer["popularity"].shape == "(B, I)"
    assert not by_layer["mixer.0"].pure


@pytest.mark.parametrize("path", [Towers, f"{__name__}.Towers"], ids=["class", "path"])
def test_an_own_model_trains_and_loads_again(tiny, path):
    settings = tiny.settings(epochs=2, state="ERROR")
    result = run_recbole_llmkt(path, tiny.name, config_dict=settings)
    assert result["transfer"]["terms"][0]["layer"] == "user_tower"
    assert isinstance(load_data_and_model(result["checkpoint"], trust=True)[1], Towers)


def test_a_class_path_in_yaml(tiny, tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(f"model: {__name__}.Towers\ndataset: {tiny.name}\n")
    settings = tiny.settings(epochs=2, state="ERROR")
    result = run_recbole_llmkt(config_file_list=[str(file)], config_dict=settings, saved=False)
    assert result["transfer"]["terms"][0]["width"] == 12


def test_nothing_wide_enough_is_an_error_with_the_reason(tiny):
    with pytest.raises(LayerError, match="width 1"):
        automatic_layer(places_of(tiny, Narrow), "user")


def test_the_preset_wins_over_the_rule(tiny):
    ready = prepare(tiny.config("BPR", kt_enabled=False))
    assert default_layers(ready.config, ready.model, ready.train_data) == {
        "user": "user_embedding",
        "item": "item_embedding",
    }


def test_looking_leaves_the_model_and_the_random_streams_alone(tiny):
    ready = prepare(tiny.config("MultiVAE", kt_enabled=False, train_neg_sample_args=None))
    parameters = copy.deepcopy(ready.model.state_dict())
    attributes = {
        name: value for name, value in vars(ready.model).items() if isinstance(value, (int, float))
    }
    before = get_random_state()
    catalog(ready.model, ready.train_data)
    after = get_random_state()
    assert torch.equal(before["torch"], after["torch"])
    assert before["python"] == after["python"]
    assert torch.equal(before["numpy"][1], after["numpy"][1])
    for name, value in ready.model.state_dict().items():
        assert torch.equal(value, parameters[name])
    assert attributes == {name: vars(ready.model)[name] for name in attributes}
    assert all(parameter.grad is None for parameter in ready.model.parameters())
    np.testing.assert_equal(ready.model.update, 0)


def place(layer, **keys):
    values = {
        "layer": layer,
        "kind": "output",
        "module": "Linear",
        "shape": "(B, 8)",
        "rows": "batch",
        "entity": "user",
        "pure": True,
        "width": 8,
        "calls": 1,
        "reach": 100,
        "order": 1,
    }
    return Place(**{**values, **keys})


CHOICES = [
    # the widest
    ([place("narrow"), place("wide", width=16)], "wide"),
    # at most as wide as a small encoder's vectors
    ([place("fits"), place("huge", width=1024)], "fits"),
    # of equals the one that trains most, then the last
    ([place("more", reach=200), place("less", order=9)], "more"),
    ([place("first"), place("last", order=9)], "last"),
    # pure over mixed, however wide
    ([place("pure"), place("mixed", pure=False, width=64)], "pure"),
    # a table where no computed state is pure
    ([place("mixed", pure=False), place("table", kind="parameter", rows="table")], "table"),
    # else the last hidden layer
    ([place("early", pure=False), place("late", pure=False, order=5)], "late"),
    # the user's own state over the rows of the items seen
    ([place("state"), place("seen", rows="time", module="Embedding", width=64)], "state"),
    # scores of all items are no hidden state
    ([place("state"), place("scores", shape="(B, I)", width=40)], "state"),
]


@pytest.mark.parametrize(("places", "chosen"), CHOICES, ids=[layer for _, layer in CHOICES])
def test_the_rule(places, chosen):
    assert automatic_layer(places, "user") == chosen
