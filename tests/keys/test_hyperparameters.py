"""What a hyperparameter may be, by its name and its default in RecBole."""

from __future__ import annotations

from recbole_llmkt.keys.hyperparameters import hyperparameter


def test_what_a_name_and_a_default_say():
    assert hyperparameter("hidden_size", 64).type == "int"
    assert hyperparameter("alpha", 1).type == "float"
    assert hyperparameter("n_facet_window", -2).refusal(-3) is None
    assert hyperparameter("loss_type", "CE") is None
    assert hyperparameter("std", False).type == "bool"
