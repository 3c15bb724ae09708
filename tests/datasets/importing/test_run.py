"""An import from the tables of a small shop to data that RecBole reads back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recbole_llmkt.config import Config
from recbole_llmkt.datasets.importing.run import Import, import_data
from recbole_llmkt.datasets.loading import load_data
from recbole_llmkt.datasets.metadata import read_item_metadata
from recbole_llmkt.utils.exceptions import DataError
from recbole_llmkt.utils.parsing import load_yaml
from tests.datasets.importing.conftest import write_csv


def imported(**keys):
    made = import_data(Import(**{"source": Path("orders.csv"), "dataset": "mine", **keys}))
    return made, Config(
        "BPR", "mine", [str(made.config_file)], {"kt_enabled": False}, command_line=[]
    )


def with_prefix(token):
    return f"id:{token}" if token in ("NA", "null") else token


def test_recbole_reads_back_every_id_and_every_part(shop):
    made, config = imported(items=Path("products.csv"), repeats="keep")
    dataset = load_data(config)[0]
    assert set(dataset.field2id_token["user_id"][1:]) == {row[0] for row in shop.orders}
    wanted = {with_prefix(row[1]) for row in shop.orders}
    assert set(dataset.field2id_token["item_id"][1:]) == wanted
    assert len(dataset) == len(shop.orders)
    items = read_item_metadata(config)
    assert set(items) == {with_prefix(row[0]) for row in shop.products}
    number = shop.skus.index("SKU\u00a02")
    item = items["SKU\u00a02"]
    assert item.title == f"Grün Rake {number} & Co."
    assert item.categories == ("Home Garden", "Tools", f"Kind {number % 3}")
    assert item.text == f"Soft and round {number}"
    assert made.has_titles and config["profile_domain"] == "shop"


def test_recbole_itself_splits_the_parts_of_a_sequence(shop):
    made, _ = imported(items=Path("products.csv"))
    load_col = {**load_yaml(made.config_file)["load_col"], "item": ["item_id", "category"]}
    keys = {"load_col": load_col, "kt_enabled": False}
    config = Config("BPR", "mine", [str(made.config_file)], keys, command_line=[])
    tokens = load_data(config)[0].field2id_token["category"]
    assert set(tokens[1:]) == {"Home Garden", "Tools", "Kind 0", "Kind 1", "Kind 2"}


def test_the_report_says_what_was_guessed_and_what_repeats_do(shop):
    made, _ = imported(items=Path("products.csv"))
    report = "\n".join(made.report)
    for line in (
        "orders.csv: user is 'email' (by its name)",
        "orders.csv: item is 'sku' (by its name)",
        "orders.csv: time is 'date' (by its name; dates)",
        "orders.csv: further columns are qty, price",
        "category is 'cat' (by its name, split at '>')",
        "domain: shop (sku, qty, price)",
        "NA is id:NA, null is id:null",
        "test interactions would repeat a training one",
        "repeats are left out (--repeats=first)",
        "dataset/mine/mine.item: 20 rows",
    ):
        assert line in report
    pairs = {(row[0], row[1]) for row in shop.orders}
    assert f"mine.inter: {len(pairs)} interactions, 12 users" in report
    lines = (shop.folder / "dataset/mine/mine.inter").read_text().splitlines()[1:]
    times = [float(line.split("\t")[2]) for line in lines]
    assert len(lines) == len(pairs) and times == sorted(times)


def test_all_formats_give_the_same_files(shop):
    header = ["email", "sku", "date", "qty", "price"]
    imported()
    wanted = (shop.folder / "dataset/mine/mine.inter").read_bytes()
    write_csv(shop.folder / "orders.tsv", [header, *shop.orders], "\t")
    lines = [json.dumps(dict(zip(header, row)), ensure_ascii=False) for row in shop.orders]
    (shop.folder / "orders.jsonl").write_text("\n".join(lines))
    for source in ("orders.tsv", "orders.jsonl"):
        imported(source=Path(source), overwrite=True)
        assert (shop.folder / "dataset/mine/mine.inter").read_bytes() == wanted


def test_bad_rows_stop_everything_unless_they_are_left_out(shop):
    rows = [["email", "sku", "date"], *(row[:3] for row in shop.orders)]
    rows += [["a@x", "S1", "soon"], ["a@x", "S1"], ["", "S1", "2024-01-03"]]
    write_csv(shop.folder / "orders.csv", rows)
    with pytest.raises(DataError, match="2 rows cannot be used, and nothing was written") as caught:
        imported()
    assert "orders.csv, line 122: 'soon' in 'date' is no date" in str(caught.value)
    assert "orders.csv, line 123: 2 cells, the header 3" in str(caught.value)
    assert not (shop.folder / "dataset").exists()
    made, _ = imported(skip_bad_rows=True)
    report = "\n".join(made.report)
    assert "2 rows that cannot be used left out" in report and "line 122" in report
    assert "1 rows without a value in 'email' left out (line 124)" in report


def test_a_second_import_needs_overwrite_and_keeps_profiles(shop):
    imported()
    with pytest.raises(DataError, match="--overwrite"):
        imported()
    (shop.folder / "dataset/mine/profiles").mkdir()
    imported(overwrite=True)
    assert (shop.folder / "dataset/mine/profiles").is_dir()


def test_ids_are_joined_whatever_the_columns_are_called(shop):
    rows = [["code", "label"], *([row[0], row[1]] for row in shop.products[:-1]), ["new", "New"]]
    write_csv(shop.folder / "products.csv", rows)
    write_csv(shop.folder / "people.csv", [["who", "city"], ["zoë1@example.com", "Köln"]])
    made, _ = imported(items=Path("products.csv"), users=Path("people.csv"))
    report = "\n".join(made.report)
    assert "products.csv: item is 'code' (it holds the items of orders.csv)" in report
    assert "1 of 20 items of the interactions are not in the table of items ('S13')" in report
    assert "1 items have no interaction" in report
    assert "11 of 12 users of the interactions are not in the table of users" in report


def test_titles_may_stand_beside_the_interactions(shop):
    rows = [
        ["email", "sku", "date", "what"],
        *([*row[:3], f"Item {row[1]}"] for row in shop.orders),
    ]
    write_csv(shop.folder / "orders.csv", rows)
    _, config = imported(title="what")
    assert read_item_metadata(config)["007"].title == "Item 007"


def test_columns_that_nobody_can_guess(shop):
    write_csv(shop.folder / "orders.csv", [["x", "sku"], ["1", "2"]])
    with pytest.raises(DataError, match=r"which column of 'orders\.csv' holds the users.*--user"):
        imported()
    write_csv(shop.folder / "products.csv", [["x", "name"], ["9", "A"]])
    with pytest.raises(DataError, match=r"No column of 'products\.csv' holds the items"):
        imported(user="x", items=Path("products.csv"))


def test_nothing_left_is_an_error(shop):
    write_csv(shop.folder / "orders.csv", [["email", "sku"], ["", "2"]])
    with pytest.raises(DataError, match="No interaction is left"):
        imported()


def test_the_report_says_what_is_missing(shop):
    write_csv(shop.folder / "o.csv", [["email", "sku"], *[row[:2] for row in shop.orders]])
    write_csv(shop.folder / "p.csv", [["sku", "n"], *[[row[0], "1"] for row in shop.products]])
    made = import_data(Import(source=Path("o.csv"), items=Path("p.csv"), dataset="mine"))
    assert "o.csv: no column of dates (--time): the split is random" in made.report
    assert "p.csv: no column looks like a title (--title): profiles need one" in made.report
