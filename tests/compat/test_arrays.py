"""What numpy and scipy took away is there for as long as a block lasts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import dok_matrix

from recbole_llmkt.compat import numpy_names, scipy_matrices

REMOVED = {
    "float_": np.float64,
    "complex_": np.complex128,
    "unicode_": np.str_,
    "bool8": np.bool_,
}


@pytest.fixture(autouse=True)
def without_names(monkeypatch):
    for name in REMOVED:
        monkeypatch.delitem(vars(np), name, raising=False)


def test_the_old_names_mean_the_same_types_and_go_again():
    with numpy_names():
        assert {name: getattr(np, name) for name in REMOVED} == REMOVED
    assert not REMOVED.keys() & vars(np).keys()


def test_they_go_after_an_error_too():
    with pytest.raises(KeyError), numpy_names():
        raise KeyError
    assert not REMOVED.keys() & vars(np).keys()


def test_a_name_that_numpy_has_stays_as_it_is(monkeypatch):
    monkeypatch.setitem(vars(np), "float_", np.float32)
    with numpy_names():
        assert np.float_ is np.float32
    assert np.float_ is np.float32


def test_graph_models_fill_their_matrices():
    data = {(0, 2): 1.0, (2, 0): 1.0, (1, 1): 2.0}
    with scipy_matrices():
        matrix = dok_matrix((3, 3), dtype=np.float32)
        matrix._update(data)
    expected = np.zeros((3, 3), dtype=np.float32)
    for place, value in data.items():
        expected[place] = value
    np.testing.assert_array_equal(matrix.tocoo().toarray(), expected)
    np.testing.assert_array_equal((matrix > 0).sum(axis=1), [[1], [1], [1]])
