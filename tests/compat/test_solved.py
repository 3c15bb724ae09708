"""Matrices of solved models, packed as tensors and unpacked again."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_llmkt.compat import (
    packed_solution,
    put_solution,
    unpack_solution,
    unsolved_model,
)
from recbole_llmkt.registry import get_model
from recbole_llmkt.utils.exceptions import DataError
from tests.helpers import IS_NEWEST_RECBOLE, prepare
from tests.transfer.closed_forms.problems import random_data, stock

CLICKS, _ = random_data()
KNN = {"k": 4, "shrink": 1.0, "knn_method": "item", "alpha": 0.3, "beta": 0.7, "q": 2}
NEIGHBOURS = ["ItemKNN", *(["AsymKNN"] if IS_NEWEST_RECBOLE else [])]


@pytest.mark.parametrize("method", ["item", "user"])
@pytest.mark.parametrize("name", NEIGHBOURS)
def test_scores_of_neighbours_are_computed_as_in_recboles_constructor(name, method):
    model = stock(get_model(name), CLICKS, **{**KNN, "knn_method": method})
    own, scores = model.w.copy(), model.pred_mat.toarray()
    model.pred_mat = None
    put_solution(model, {"w": own})
    np.testing.assert_allclose(model.pred_mat.toarray(), scores, rtol=1e-5)
    assert model.solved_names == ("w",) and scores.any()


@pytest.mark.parametrize("name", ["EASE", "ItemKNN", "NCEPLRec"])
def test_what_is_packed_is_unpacked_into_another_model(name):
    keys = {**KNN, "reg_weight": 1.0, "rank": 3, "seed": 1}
    model = stock(get_model(name), CLICKS, **keys)
    names = {"EASE": ["item_similarity"], "ItemKNN": ["w"]}.get(name, ["user_embeddings"])
    put_solution(model, {name: vars(model)[name] * 2 for name in names})
    packed = packed_solution(model)
    other = stock(get_model(name), CLICKS, **keys)
    unpack_solution(other, packed, "file")
    for attribute in names:
        mine, theirs = vars(model)[attribute], vars(other)[attribute]
        assert type(mine) is type(theirs) or isinstance(mine, np.ndarray)
        difference = mine - theirs
        assert abs(difference).max() == 0.0
    assert packed_solution(other).keys() == packed.keys()


def test_a_model_as_recbole_made_it_packs_nothing():
    assert packed_solution(stock(get_model("EASE"), CLICKS, reg_weight=1.0)) == {}


def test_matrices_of_other_sizes_are_refused():
    ease = stock(get_model("EASE"), CLICKS, reg_weight=1.0)
    knn = stock(get_model("ItemKNN"), CLICKS, **KNN)
    small = {"data": torch.ones(1), "indices": torch.zeros(1, dtype=torch.int32)}
    for model, packed in (
        (ease, {"item_similarity": torch.zeros(3, 3)}),
        (ease, {"nonsense": torch.zeros(3, 3)}),
        (ease, {"item_similarity": {"data": torch.zeros(3)}}),
        (knn, {"w": torch.zeros(8, 8)}),
        (knn, {"w": {**small, "indptr": torch.tensor([0, 1], dtype=torch.int32)}}),
    ):
        with pytest.raises(DataError, match=r"'x\.pth' does not fit this"):
            unpack_solution(model, packed, "x.pth")


def test_an_index_outside_the_matrix_is_refused():
    """scipy would read and write memory that is not the matrix's."""
    knn = stock(get_model("ItemKNN"), CLICKS, **KNN)
    put_solution(knn, {"w": knn.w})
    packed = packed_solution(knn)
    packed["w"]["indices"] = packed["w"]["indices"].clone().fill_(10**6)
    with pytest.raises(DataError, match="does not fit"):
        unpack_solution(knn, packed, "x.pth")
    assert sp.issparse(knn.w)


@pytest.mark.parametrize("name", ["EASE", "SLIMElastic", "ADMMSLIM"])
def test_a_model_is_made_without_its_solution(tiny, monkeypatch, name):
    config = tiny.config(name, kt_enabled=False)
    own = prepare(config)
    dataset = own.train_data._dataset
    monkeypatch.setattr(np.linalg, "inv", lambda matrix: matrix if matrix.size == 1 else 1 / 0)
    model = unsolved_model(config, dataset)
    assert vars(model).keys() - vars(own.model).keys() <= {"is_solved"}
    assert sp.issparse(model.item_similarity) == sp.issparse(own.model.item_similarity)
    assert model.item_similarity.shape == own.model.item_similarity.shape
    assert not abs(model.item_similarity).max()
    assert type(model.interaction_matrix) is type(own.model.interaction_matrix)
    assert abs(model.interaction_matrix - own.model.interaction_matrix).max() == 0
    if name == "ADMMSLIM":
        np.testing.assert_array_equal(model.item_means, own.model.item_means)
    with pytest.raises(DataError, match="holds no solution"):
        unpack_solution(model, {}, "x.pth")


def test_other_models_and_own_classes_are_left_to_recbole(tiny):
    class Own(get_model("EASE")):
        pass

    dataset = prepare(tiny.config("BPR", kt_enabled=False)).train_data._dataset
    assert unsolved_model(tiny.config("BPR"), dataset) is None
    config = tiny.config("EASE")
    config.model_class = Own
    assert unsolved_model(config, dataset) is None
