"""Which settings decide a result, and how differences are told."""

from __future__ import annotations

import pytest

from recbole_llmkt.experiment.runs.settings import differences, digest, not_default, same


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        (1, True, False),
        (0, False, False),
        ((1, 2), [1, 2], True),
        (1, 1.0, False),
        (None, "null", False),
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, True),
    ],
)
def test_values_are_compared_as_json(first, second, equal):
    assert same(first, second) is equal


def test_a_key_of_this_package_at_its_default_is_as_if_it_were_not_there():
    settings = {"kt_weight": 0.123, "kt_schedule": "constant", "epochs": 300}
    assert not_default({**settings, "kt_control": "none"}) == not_default(settings)
    assert digest({**settings, "kt_control": "none"}) == digest(settings)
    assert digest({**settings, "kt_control": "random"}) != digest(settings)
    assert not_default({"epochs": 300}) == {"epochs": 300}  # a key of RecBole's always counts


def test_the_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": (1, 2), "a": 1})
    assert len(digest({})) == 16
    # SHA-256 of "{}", by `printf '{}' | sha256sum`.
    assert digest({}) == "44136fa355b3678a"


def test_the_first_five_differences_are_named():
    old = {name: 1 for name in "abcdefg"}
    assert differences(old, {**old, "b": 2, "kt_control": "none"}) == "b 1 -> 2"
    assert differences(old, {**old, "b": 2, "g": 3}, ignored=["b"]) == "g 1 -> 3"
    assert differences(old, old) == ""
    shown = differences(old, dict.fromkeys(old, True))
    assert shown == "a 1 -> True, b 1 -> True, c 1 -> True, d 1 -> True, e 1 -> True, ..."
