"""Which column is what."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from recbole_llmkt.datasets.importing.guessing import Roles, guess_separator, split_choice
from recbole_llmkt.datasets.importing.reading import Table
from recbole_llmkt.utils.exceptions import DataError


def roles(**columns):
    return Roles(Table(Path("t.csv"), pd.DataFrame(columns, dtype=object)))


def guessed(role, **columns):
    made = roles(**columns)
    made.guess(role)
    return made.columns.get(role)


@pytest.mark.parametrize(
    ("role", "names", "column"),
    [
        ("user", ["order_id", "customerId", "email"], "customerId"),
        ("user", ["E-Mail", "sku"], "E-Mail"),
        ("item", ["order_id", "ProductID", "product_name"], "ProductID"),
        ("item", ["id", "bought_sku"], "bought_sku"),
        ("title", ["id", "Product Name"], "Product Name"),
        ("category", ["categoryPath"], "categoryPath"),
        ("user", ["a", "b"], None),
    ],
)
def test_by_name(role, names, column):
    assert guessed(role, **{name: ["x1", "y"] for name in names}) == column


def test_values_can_deny_a_name():
    assert guessed("rating", rating=["good"], stars=["4.5"]) == "stars"
    assert guessed("time", date=["soon"], created_at=["2024-01-03"]) == "created_at"
    assert guessed("title", title=["1", "2"], name=["Rake", "2"]) == "name"


def test_times_are_known_by_their_values():
    made = roles(n=["1", "2"], bought=["2024-01-03", "2024-01-04"])
    made.guess_time()
    assert made.columns == {"time": "bought"} and made.reasons["time"] == "its values are dates"
    made = roles(n=["1", "2"])
    made.guess_time()
    assert made.columns == {}


def test_large_ids_are_no_moments():
    """9007199254740993 microseconds after 1970 is a date, too."""
    ids, when = ["9007199254740993", "9007199254741000"], ["1735718400000", "1735718400001"]
    made = roles(customer=ids, bought=["2024-01-03", "2024-01-04"])
    made.guess_time()
    assert made.columns == {"time": "bought"}
    made = roles(customer=ids, moment=when)
    made.guess_time()
    assert made.columns == {"time": "moment"}
    made = roles(customer=ids)
    made.guess_time()
    assert made.columns == {}


def test_a_rating_may_have_a_decimal_comma():
    assert guessed("rating", rating=["4,5", "3"]) == "rating"


def test_ids_are_known_by_another_table():
    made = roles(a=["x", "y", ""], b=["1", "2", "3"])
    assert made.guess_by_values("item", {"code": {"1", "2", "9"}, "n": {"x"}}, "p.csv") == "code"
    assert made.columns == {"item": "b"} and "2 of its values" in made.reasons["item"]
    assert roles(a=["x"]).guess_by_values("item", {"code": {"1"}}, "p.csv") == ""


def test_named_columns_must_be_there_and_differ():
    made = roles(sku=["1"], b=["2"])
    with pytest.raises(DataError, match=r"no column 'skuu'.*Did you mean 'sku'"):
        made.give("item", "skuu")
    made.give("item", "sku")
    with pytest.raises(DataError, match="--user and --item cannot both"):
        made.give("user", "sku")


def test_the_sign_between_categories_may_be_a_colon():
    assert split_choice("cat::", ["cat"]) == ("cat", ":")
    assert split_choice("a:b: > ", ["a:b"]) == ("a:b", " > ")
    assert split_choice(None, []) == (None, None)


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (["Home > Rakes", "Home > Saws", ""], ">"),
        (["Home>Rakes"], ">"),
        (["A|B", "C"], "|"),
        (["Action,Comedy", "Comedy,War", "Action,War", "War"], ","),
        (["Pots, pans and lids", "Saws, green", "Rakes"], None),
        (["Rakes", ""], None),
        ([], None),
    ],
)
def test_the_sign_between_categories_is_guessed(cells, separator):
    assert guess_separator(pd.Series(cells, dtype=object)) == separator
