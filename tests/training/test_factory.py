"""Which class of a model and of a trainer a run gets."""

from __future__ import annotations

import pytest
import torch
from recbole.trainer import NCLTrainer, S3RecTrainer, Trainer
from recbole.utils import ModelType, init_seed

from recbole_llmkt.compat import create_dataset
from recbole_llmkt.registry import get_model
from recbole_llmkt.training.factory import build_model, get_trainer
from recbole_llmkt.training.trainer import TransferMixin
from recbole_llmkt.utils.exceptions import ConfigError


@pytest.mark.parametrize(
    ("model", "kind", "stock"),
    [
        ("BPR", ModelType.GENERAL, Trainer),
        ("NCL", ModelType.GENERAL, NCLTrainer),
        ("S3Rec", ModelType.SEQUENTIAL, S3RecTrainer),
    ],
)
def test_a_models_own_trainer_is_extended(model, kind, stock):
    trainer = get_trainer(kind, model)
    assert trainer.__name__ == f"Transfer{stock.__name__}"
    assert trainer.__mro__.index(TransferMixin) < trainer.__mro__.index(stock)
    assert trainer.__doc__ == stock.__doc__


def test_decision_trees_keep_their_own_training_loop():
    assert not issubclass(get_trainer(ModelType.DECISIONTREE, "XGBoost"), TransferMixin)


def test_without_transfer_the_model_is_recboles_bit_for_bit(make_dataset):
    config = make_dataset(n_users=5, n_items=8, per_user=(4, 6)).config(kt_enabled=False)
    dataset = create_dataset(config)
    init_seed(7, True)
    model = build_model(config, dataset)
    init_seed(7, True)
    stock = get_model("BPR")(config, dataset)
    assert type(model) is get_model("BPR")
    assert model.state_dict().keys() == stock.state_dict().keys()
    for name, value in stock.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_a_model_that_cannot_be_built_is_one_error(make_dataset, monkeypatch):
    config = make_dataset(n_users=5, n_items=8, per_user=(4, 6)).config(kt_enabled=False)
    dataset = create_dataset(config)
    config["embedding_size"] = "many"
    with pytest.raises(
        ConfigError, match=r"RecBole cannot build BPR: .*Check the model's settings"
    ):
        build_model(config, dataset)
