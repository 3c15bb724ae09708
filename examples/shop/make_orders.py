"""Write the tables of an invented shop: orders.csv and products.csv, of this week or of the next.

python examples/shop/make_orders.py [--next-week]

A week later one customer has been erased, three are new, a product is new, and everybody may have
ordered again; the lines come in another order.
"""

from __future__ import annotations

import argparse
import csv
import html
import random
from pathlib import Path

DEPARTMENTS = {
    "Garden > Herbs": ("Basil", "Thyme", "Rosemary", "Mint", "Chives"),
    "Garden > Tools": ("Rake", "Spade", "Pruner", "Watering can", "Trowel"),
    "Kitchen > Baking": ("Rye flour", "Baking tin", "Yeast", "Dough scraper", "Vanilla"),
    "Kitchen > Coffee": ("Espresso beans", "Grinder", "Moka pot", "Filter", "Milk jug"),
    "Books > Crime": ("Nordic murder", "London detective", "Cold case", "Heist", "Locked room"),
    "Books > Travel": ("Alps on foot", "Kyōto walks", "Sahara", "Café atlas", "Night trains"),
}
N_CUSTOMERS, N_SERIES, N_ORDERS = 400, 10, 14
Row = tuple[str, ...]


def products(next_week: bool) -> list[Row]:
    """Return sku, name, category and description of each product."""
    rows = []
    for category, names in DEPARTMENTS.items():
        for name in names:
            for series in range(1, N_SERIES + 1):
                sku = f"{name[:3].upper()}-{len(rows):03d}"
                text = f"<p>{html.escape(name)} for people who love {category.split(' > ')[1]}.</p>"
                rows.append((sku, html.escape(f"{name} no. {series} & more"), category, text))
    if next_week:
        rows.append(("NEW-300", "Basil seeds", "Garden > Herbs", "<p>Basil for beginners.</p>"))
    return rows


def orders_of(customer: int, goods: list[Row], week: int) -> list[Row]:
    """Return a customer's orders of a week: mostly from one department."""
    rng = random.Random(f"{week} {customer}")
    departments = list(DEPARTMENTS)
    favourite = departments[customer % len(departments)]
    liked = [row[0] for row in goods if row[2] == favourite]
    rows = []
    for _ in range(N_ORDERS if week == 1 else 1):
        sku = rng.choice(liked if rng.random() < 0.8 else [row[0] for row in goods])
        day = rng.randint(1, 7) + 7 * (week - 1)
        time = f"2024-05-{day:02d}T{rng.randrange(24):02d}:{rng.randrange(60):02d}"
        rows.append((f"c{customer}@example.com", sku, time, str(rng.randint(1, 3))))
    return rows


def orders(next_week: bool) -> list[Row]:
    """Return email, sku, date and quantity of each order."""
    goods = products(next_week)
    customers = range(N_CUSTOMERS)
    rows = [row for customer in customers for row in orders_of(customer, goods, 1)]
    if next_week:
        rows += [row for customer in customers for row in orders_of(customer, goods, 2)]
        rows = [row for row in rows if row[0] != "c7@example.com"]
        for customer in range(N_CUSTOMERS, N_CUSTOMERS + 3):
            rows += orders_of(customer, goods, 1)
        random.Random(0).shuffle(rows)
    return rows


def main() -> None:
    """Write both tables into the current folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--next-week", action="store_true")
    next_week = parser.parse_args().next_week
    tables = {
        "products.csv": (("sku", "name", "category", "description"), products(next_week)),
        "orders.csv": (("email", "sku", "date", "quantity"), orders(next_week)),
    }
    for name, (header, rows) in tables.items():
        with Path(name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    main()
