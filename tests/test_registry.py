"""Models by name and by class path."""

from __future__ import annotations

import sys

import pytest
from recbole.model.general_recommender import BPR

from recbole_llmkt.registry import get_model, model_names
from recbole_llmkt.utils.exceptions import ConfigError


@pytest.mark.parametrize("name", ["BPR", "recbole.model.general_recommender.BPR"])
def test_a_model_by_name_and_by_path(name):
    assert get_model(name) is BPR


def test_a_model_of_ones_own(tmp_path, monkeypatch):
    text = "from recbole.model.general_recommender import BPR\nclass Mine(BPR):\n    pass\n"
    (tmp_path / "module_with_my_model.py").write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    model = get_model("module_with_my_model.Mine")
    assert model.__name__ == "Mine"
    assert issubclass(model, BPR)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NeuMFF", "Unknown model 'NeuMFF'.*NeuMF"),
        ("", "Unknown model ''"),
        ("collections.Counter", "'collections.Counter' is not a RecBole model"),
        ("recbole.model.general_recommender.NoSuch", "Cannot import"),
    ],
)
def test_other_names_are_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        get_model(name)


def test_names_are_of_all_four_kinds_and_in_order():
    names = model_names()
    assert {"BPR", "DeepFM", "SASRec", "KGAT"} <= {*names}
    assert names == sorted(names)
    assert "XGBoost" not in names  # no gradient training
