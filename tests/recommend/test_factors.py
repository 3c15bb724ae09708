"""Which models score by a product is found out by experiment."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_llmkt.config import Config
from recbole_llmkt.quick_start import train
from recbole_llmkt.recommend.factors import Product, Products
from recbole_llmkt.recommend.rank import Ranker
from recbole_llmkt.utils.exceptions import ConfigError
from tests.parity.parity_cases import CONTEXT, GENERAL, KNOWLEDGE, LIBRARIES
from tests.parity.parity_cases import SEQUENTIAL as SEQUENTIAL_CASES
from tests.parity.parity_data import NAME, write_atomic_files
from tests.recommend.test_rank import SEQUENTIAL

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
MODELS = {
    "BPR": {},
    "NGCF": {"hidden_size_list": [8, 8]},
    "SimpleX": {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 3}},
    "LightGCN": {"n_layers": 1},
    "MultiVAE": {"mlp_hidden_size": [8], "latent_dimension": 4},  # its last layer has a bias
    "SASRec": SEQUENTIAL,
    "CORE": SEQUENTIAL,  # divides by a temperature
}


def ranker_of(dataset, model, **keys):
    config = dataset.config(model, kt_enabled=False, epochs=1, **keys)
    return Ranker(train(config, verbose=False)["checkpoint"])


@pytest.mark.parametrize("model", MODELS)
def test_the_product_is_the_score(make_dataset, model):
    ranker = ranker_of(make_dataset(), model, **MODELS[model])
    ids = ranker.all_user_ids()
    factors = ranker.factors(ids, ranker.all_item_ids())
    assert factors.users.shape[0] == 30 and factors.items.shape[0] == 40
    with torch.no_grad():
        scores = ranker.scores(np.array(ids))[:, 1:].cpu().numpy()
    np.testing.assert_allclose(factors.users @ factors.items.T, scores, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("case", [*GENERAL, *SEQUENTIAL_CASES, *KNOWLEDGE, *CONTEXT], ids=str)
def test_the_page_names_the_models_with_vectors(case, tmp_path):
    if case.model in LIBRARIES:
        pytest.importorskip(LIBRARIES[case.model])
    write_atomic_files(tmp_path)
    keys = case.config(data_path=str(tmp_path), kt_enabled=False, epochs=1, eval_step=0)
    if case.model == "SINE":
        keys["train_neg_sample_args"] = {"distribution": "uniform", "sample_num": 1}
    config = Config(case.model, NAME, config_dict=keys, command_line=[])
    ranker = Ranker(train(config, verbose=False, evaluate_test=False)["checkpoint"])
    (table,) = re.findall(r"models with vectors \|\n(.*?)\n\n", PAGE.read_text(), re.DOTALL)
    assert (ranker.product is not None) == (case.model in re.findall(r"\w+", table))
    if ranker.product is None:
        return
    users, items = ranker.all_user_ids(), ranker.all_item_ids()
    factors = ranker.factors(users, items)
    with torch.no_grad():
        scores = ranker.scores(np.array(users))[:, items].numpy()
    largest = 1e-4 * (scores.max() - scores.min())
    np.testing.assert_allclose(factors.users @ factors.items.T, scores, rtol=0, atol=largest)


def test_the_vectors_cost_no_scores(make_dataset, monkeypatch):
    """Another product of the same shape does not end the block."""
    ranker = ranker_of(make_dataset(), "BPR")
    ids = ranker.all_user_ids()
    assert ranker.product is not None
    after = []
    real = type(ranker.model).full_sort_predict

    def counted(model, users):
        torch.ones(len(users), 3) @ torch.ones(3, 41)  # some other product of the same shape
        scores = real(model, users)
        after.append(scores)
        return scores

    monkeypatch.setattr(type(ranker.model), "full_sort_predict", counted)
    factors = ranker.factors(ids, [1])
    assert not after
    assert np.array_equal(factors.users, ranker.model.user_embedding.weight[ids].detach().numpy())


@pytest.mark.parametrize("model", ["NeuMF", "DMF", "EASE", "FPMC"])
def test_other_scores_are_refused(make_dataset, model):
    """NeuMF and DMF score pairs, EASE multiplies with a matrix of items, FPMC adds two products."""
    sampled = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}
    keys = {**SEQUENTIAL, **sampled} if model == "FPMC" else {}
    ranker = ranker_of(make_dataset(), model, **keys)
    assert ranker.product is None
    with pytest.raises(ConfigError, match=f"The score of {model} is not the product"):
        ranker.factors([1], [1])


def test_the_models_own_vectors_are_exported(make_dataset):
    ranker = ranker_of(make_dataset(), "BPR")
    factors = ranker.factors([2, 5], [7, 1])
    model = ranker.model
    assert np.array_equal(factors.users, model.user_embedding.weight[[2, 5]].detach().numpy())
    assert np.array_equal(factors.items, model.item_embedding.weight[[7, 1]].detach().numpy())


def test_scale_and_bias_are_found():
    rng = torch.Generator().manual_seed(1)
    users, items = torch.randn(4, 8, generator=rng), torch.randn(20, 8, generator=rng)
    bias = torch.randn(20, generator=rng)
    product = Product.of(users, items, 3 * users @ items.T + bias)
    assert product is not None and product.scale == pytest.approx(3)
    assert torch.allclose(product.bias, bias, atol=1e-4)
    assert Product.of(users, items, torch.sigmoid(users @ items.T)) is None
    assert Product.of(users, items, users @ items.T + users[:, :1] * torch.rand(20)) is None
    assert Product.of(users, items, torch.full((4, 20), torch.nan)) is None
    assert not product.equals(Product(items, torch.zeros(20), 3.0))


def test_products_are_recorded_whichever_way_they_are_computed():
    left, right = torch.rand(3, 4), torch.rand(7, 4)
    with Products(3, 7) as products:
        left @ right.T
        (right @ left.T).T.exp()
        torch.nn.functional.linear(left, right, torch.ones(7))
        torch.rand(3, 2) @ torch.rand(2, 5)
    assert len(products.pairs) == 3
    for users, items in products.pairs:
        assert torch.equal(users, left) and torch.equal(items, right)


def test_no_compiler_is_imported_to_record_products():
    """torch wraps the method so that the first call imports torch._dynamo, for two seconds."""
    assert not hasattr(Products.__torch_dispatch__, "__wrapped__")
