"""What ``kt_*`` says of the terms of the loss."""

from __future__ import annotations

import pytest

from recbole_llmkt.transfer.auxiliary.settings import (
    TermSettings,
    default_layers,
    partner_settings,
    term_settings,
)
from recbole_llmkt.utils.exceptions import ConfigError

CONFIG = {"kt_layer": "auto", "kt_rows": "auto", "kt_entity": "user", "kt_weight": 0.4}


def test_one_weight_is_shared_and_one_layer_holds_for_both():
    terms = term_settings({**CONFIG, "kt_entity": "both"})
    assert terms == [
        TermSettings("auto", "auto", "user", 0.2),
        TermSettings("auto", "auto", "item", 0.2),
    ]


def test_a_weight_of_zero_is_no_term():
    assert term_settings({**CONFIG, "kt_weight": 0.0}) == []
    weights = {**CONFIG, "kt_layer": ["a", "b"], "kt_weight": [0.0, 1.0]}
    assert term_settings(weights) == [TermSettings("b", "auto", "user", 1.0)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"kt_layer": ["a", "b", "c"], "kt_entity": "both"},
            "kt_layer has 3, kt_entity has 2",
        ),
        ({"kt_layer": ["a", "b"], "kt_weight": [0.6, 0.5]}, "adds up to more than 1"),
    ],
)
def test_lists_that_do_not_fit(changes, message):
    with pytest.raises(ConfigError, match=message):
        term_settings({**CONFIG, **changes})


def test_partners_are_read_where_another_term_reads_them():
    users, items = TermSettings("a", "auto", "user", 0.5), TermSettings("b", "batch", "item", 0.5)
    assert partner_settings([users, items], users) is items
    assert partner_settings([users], users) == TermSettings("auto", "auto", "item", 0.0)


def test_layers_of_a_preset_need_no_look_at_the_model():
    config = {"kt_user_layer": "user_embedding", "kt_item_layer": "item_embedding"}
    assert default_layers(config, None, None) == {
        "user": "user_embedding",
        "item": "item_embedding",
    }
    # Of what no rule finds a place for there is no layer.
    partial = {"kt_user_layer": "user_embedding", "kt_item_layer": None}
    assert default_layers(partial, None, None, places=[]) == {"user": "user_embedding"}
