"""Names that numpy 2 took away are there for as long as a block lasts."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_llmkt.compat import numpy_names

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
