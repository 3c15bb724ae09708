"""Columns of tables as columns of atomic files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from recbole_llmkt.datasets.importing.columns import Namer, entities, interactions, strings
from recbole_llmkt.datasets.importing.guessing import Roles
from recbole_llmkt.datasets.importing.reading import BadRows, Table
from recbole_llmkt.utils.exceptions import DataError


def roles(given, **columns):
    frame = pd.DataFrame(columns, dtype=object)
    frame.index = range(2, 2 + len(frame))
    made = Roles(Table(Path("t.csv"), frame))
    for role, column in given.items():
        made.give(role, column)
    return made


ORDERS = {"user": "u", "item": "i", "time": "t", "rating": "r"}


def test_rows_without_an_id_or_a_time_are_counted_and_named():
    bad = BadRows()
    made = interactions(
        roles(ORDERS, u=["a", " ", "b"], i=["x", "x", "y"], t=["1704311603", "1", ""], r=["5"] * 3),
        bad,
        Namer(),
    )
    assert made.frame.to_dict("records") == [
        {"user_id": "a", "item_id": "x", "timestamp": 1704311603.0, "rating": 5.0}
    ]
    assert made.notes[0] == "1 rows without a value in 'u' left out (line 3)"
    assert made.notes[1] == "1 rows without a value in 't' left out (line 4)"
    assert not bad.reasons


def test_rows_that_cannot_be_used_are_noted_with_their_lines():
    bad = BadRows()
    made = interactions(
        roles(
            ORDERS,
            u=["a", "b", "c", "d\te", "f"],
            i=["x"] * 5,
            t=["2024-01-03", "soon", "2024-01-04", "2024-01-05", "2024-01-05"],
            r=["1", "2", "good", "3", ""],
        ),
        bad,
        Namer(),
    )
    assert made.frame["user_id"].tolist() == ["a", "f"]
    reasons = sorted(bad.reasons.values())
    assert reasons[:2] == [
        "t.csv, line 3: 'soon' in 't' is no date",
        "t.csv, line 4: 'good' in 'r' is no number",
    ]
    assert "line 5" in reasons[2] and "tab" in reasons[2] and len(reasons) == 3
    assert "1 of 5 rows have no 'r'; RecBole takes the mean for them" in made.notes


def test_a_column_of_other_dates_is_one_error():
    with pytest.raises(DataError, match=r"'03/01/2024' in column 't', line 2.*--time-format"):
        interactions(
            roles({**ORDERS, "rating": None}, u=["a"], i=["x"], t=["03/01/2024"]),
            BadRows(),
            Namer(),
        )


def test_further_columns_are_numbers_or_texts():
    made = interactions(
        roles(
            {"user": "u", "item": "i"},
            u=["a", "b"],
            i=["x", "y"],
            qty=["2", " 3.5"],
            zip=["01234", "99999"],
            note=["<b>soon</b>", ""],
            void=["", ""],
            rating=["5", "4"],
        ),
        BadRows(),
        Namer(),
    )
    assert made.types == {
        "user_id": "token",
        "item_id": "token",
        "qty": "float",
        "zip": "token",
        "note": "token",
        "inter_rating": "float",
    }
    assert made.frame["note"].tolist() == ["soon", ""]
    assert "the column 'void' is empty, and left out" in made.notes


def test_odd_ids_are_kept_and_told_of():
    bad = BadRows()
    ids = ["NA", "SKU 1", "sku1", "Zo\u0065\u0308", "007"]
    made = interactions(roles({"user": "u", "item": "i"}, u=["a"] * 5, i=ids), bad, Namer())
    assert made.frame["item_id"].tolist() == ["id:NA", "SKU 1", "sku1", "Zoë", "007"]
    notes = "\n".join(made.notes)
    assert "NA is id:NA" in notes and "--missing=NA" in notes
    assert "1 ids of 'i' composed as Unicode" in notes
    assert "2 ids of 'i' differ" in notes and "'SKU 1', 'sku1'" in notes


def test_the_first_row_of_an_item_counts():
    made = entities(
        roles(
            {"item": "i", "title": "n", "category": "c", "text": "d"},
            i=["x", "x", "", "y"],
            n=["A", "B", "C", ""],
            c=["Home Garden > Tools", "", "", "Rakes"],
            d=["<p>a</p>", "", "", ""],
            price=["9.99", "1", "1", ""],
        ),
        "item",
        BadRows(),
        Namer(),
        ">",
    )
    assert made.frame["item_id"].tolist() == ["x", "y"]
    assert made.frame["category"].tolist() == [("Home Garden", "Tools"), ("Rakes",)]
    assert made.types["category"] == "token_seq" and made.types["title"] == "token"
    assert strings(made.frame["category"], "|".join) == ["Home Garden|Tools", "Rakes"]
    notes = "\n".join(made.notes)
    for note in (
        "1 further rows of a known 'i'",
        "1 of 3 rows have no 'n'",
        "1 texts of 'd' cleaned",
        "1 rows without a value in 'i' left out (line 4)",
        "1 of 3 rows have no 'price'",
    ):
        assert note in notes


def test_names_differ_between_files():
    namer = Namer()
    assert [namer("unit price!", table) for table in ("inter", "item", "item", "item")] == [
        "unit_price",
        "item_unit_price",
        "item_unit_price_2",
        "item_unit_price_3",
    ]
    assert namer("user_id", "user") == "user_user_id"
    assert namer("größe", "item") == "größe"


def test_numbers_are_written_short_and_exactly():
    column = pd.Series([1704311603.0, 1704311603.25, float("nan"), -0.1])
    assert strings(column, "|".join) == ["1704311603", "1704311603.25", "", "-0.1"]


def test_numbers_with_commas_are_numbers_and_unclear_ones_are_named():
    made = interactions(
        roles(
            {"user": "u", "item": "i", "rating": "r"},
            u=["a", "b"],
            i=["x", "y"],
            r=["4,5", "3"],
            price=["1.234,50", "7"],
            amount=["1,234", "2,000"],
        ),
        BadRows(),
        Namer(),
    )
    assert made.frame["rating"].tolist() == [4.5, 3.0]
    assert made.types["price"] == "float" and made.frame["price"].tolist() == ["1234.50", "7"]
    assert made.types["amount"] == "token"
    assert "numbers of 'price' have commas: '1.234,50' is 1234.50" in made.notes
    assert any(note.startswith("'amount' stays text: '1,234' may be") for note in made.notes)
