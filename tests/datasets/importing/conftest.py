"""A small shop: Unicode, markup, category paths, odd ids, repeats, gaps."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest

ODD_IDS = ("SKU 1/B", "SKU\u00a02", "007", "NA", "null", 'the "best"')


def write_csv(path: Path, rows: list[list[str]], separator: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    return path


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Write orders.csv and products.csv into the working directory, and return their rows."""
    monkeypatch.chdir(tmp_path)
    skus = [*ODD_IDS, *(f"S{number}" for number in range(14))]
    orders = [["email", "sku", "date", "qty", "price"]]
    for user in range(12):
        email = f"zoë{user}@example.com"
        for step in range(10):
            sku = skus[(user * 3 + step * (1 + user % 4)) % len(skus)]
            orders.append(
                [email, sku, f"2024-0{1 + step % 9}-{10 + user}T0{step}:00:00Z", "2", "9.99"]
            )
    products = [["sku", "name", "cat", "description"]]
    for number, sku in enumerate(skus):
        name = f"Gr\u0075\u0308n <b>Rake</b> {number} &amp; Co."
        text = f"<p>Soft\tand\nround</p><script>x()</script> {number}" if number % 2 else ""
        products.append([sku, name, f"Home Garden > Tools > Kind {number % 3}", text])
    write_csv(tmp_path / "orders.csv", orders)
    write_csv(tmp_path / "products.csv", products)
    return SimpleNamespace(folder=tmp_path, orders=orders[1:], products=products[1:], skus=skus)
