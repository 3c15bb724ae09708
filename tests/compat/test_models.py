"""The table of models' quirks names models, keys and attributes that RecBole has."""

from __future__ import annotations

import inspect

import pytest
import torch
from recbole.utils import get_model
from torch import nn

from recbole_llmkt.compat import forget_computed
from recbole_llmkt.compat.models import QUIRKS, later_stage, pretrains, quirks, trained_parts
from recbole_llmkt.config import Config


@pytest.mark.parametrize("name", QUIRKS)
def test_every_entry_is_about_a_model_that_reads_it(name):
    needs, source = QUIRKS[name], inspect.getsource(inspect.getmodule(get_model(name)))
    words = [*needs.kept, *needs.later, needs.recomputed, *needs.pretraining]
    words += [value for values in needs.later.values() for value in values if value is not True]
    assert words and all(word in source for word in words if word != "distillation")


def test_a_derived_class_has_the_quirks_of_its_model():
    class Mine(get_model("NCL")):
        pass

    assert quirks(Mine) == QUIRKS["NCL"] and quirks(get_model("BPR")) == quirks(object)


def test_stages_and_warm_ups_are_told_from_the_configuration():
    config = Config("NeuMF", "ml-100k", command_line=[])
    assert later_stage(config) == ""
    config["use_pretrain"] = True
    assert later_stage(config) == "use_pretrain: True"
    ncl = Config("NCL", "ml-100k", config_dict={"warm_up_step": 2}, command_line=[])
    assert [trained_parts(ncl, epoch) for epoch in (0, 1, 2)] == [-1, -1, None]
    assert trained_parts(config, 0) is None
    model = get_model("RaCT").__new__(get_model("RaCT"))
    stages = ("actor_pretrain", "critic_pretrain", "finetune")
    pretrained = [vars(model).update(train_stage=stage) or pretrains(model) for stage in stages]
    assert pretrained == [True, True, False]


def test_vectors_kept_from_one_evaluation_to_the_next_are_forgotten():
    model = nn.Linear(2, 2)
    weight = model.weight.clone()
    model.restore_user_e = torch.ones(3)
    model.restore_item_e = torch.ones(3)
    model.restore_flag = True
    model.other_parameter_name = ["restore_item_e"]  # what a checkpoint puts back itself
    forget_computed(model)
    assert model.restore_user_e is None
    assert torch.equal(model.restore_item_e, torch.ones(3))
    assert model.restore_flag is True
    assert torch.equal(model.weight, weight)
