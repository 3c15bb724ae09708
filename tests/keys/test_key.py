"""What a key's value may be."""

from __future__ import annotations

import math

import pytest

from recbole_llmkt.keys.key import Key, address, shown

SHARE = Key("share", "float", low=0.0, high=1.0, above=True)
COUNT = Key("count", "int", low=1)
LOSS = Key("loss", "str", choices=("rmse", "mse"), class_path=True)
LAYERS = Key("layers", "str", many="some")
NAMES = Key("names", "str", many="list", optional=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (SHARE, 1),
        (SHARE, 1e-9),
        (COUNT, 2**31 - 1),
        (LOSS, "mse"),
        (LOSS, "my.module.Loss"),
        (LAYERS, "a"),
        (LAYERS, ["a", "b"]),
        (NAMES, []),
        (NAMES, None),
    ],
)
def test_good_values(key, value):
    assert key.refusal(value) is None


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (SHARE, 0.0, "a number above 0.0, up to 1.0."),
        (SHARE, math.nan, "a number above 0.0, up to 1.0."),
        (SHARE, True, "a number above 0.0, up to 1.0."),
        (COUNT, 0, "an integer of 1 or more."),
        (COUNT, 2.0, "an integer of 1 or more."),
        (COUNT, 2**31, "an integer of 1 or more."),
        (COUNT, None, "an integer of 1 or more."),
        (LOSS, "rsme", "one of rmse, mse or a class path"),
        (LOSS, ["rmse"], "one of rmse, mse or a class path"),
        (LAYERS, [], "not an empty list."),
        (LAYERS, ["a", ""], "a non-empty string."),
        (NAMES, "a", "a list of strings, like [A, B] or []."),
        (NAMES, ["a", 3], "a list of strings, like [A, B] or []."),
        (Key("flag", "bool"), 1, "True or False."),
        (Key("extra", "dict"), [], "a mapping, like {key: value}."),
    ],
)
def test_a_refusal_says_what_is_allowed(key, value, words):
    assert key.refusal(value).startswith(words)


def test_the_rule_is_asked_after_the_type():
    key = Key("even", "int", low=0, rule=lambda value: "even." if value % 2 else None)
    assert key.refusal(4) is None
    assert key.refusal(3) == "even."
    assert key.refusal("3").startswith("an integer of 0 or more")


def test_values_in_messages_are_short_and_one_line():
    assert shown("a\nb") == "a b"
    assert len(shown("x" * 500)) == 80
    assert shown(10**5000) == "a huge int"


def test_addresses():
    assert address("http://localhost:8000/v1") is None
    assert address("localhost:8000").startswith("the address of a server. ")
