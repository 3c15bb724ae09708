"""A shop, from its tables to recommendations, and again a week later."""

from __future__ import annotations

import csv
import html
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from recbole_llmkt.cli.main import main
from recbole_llmkt.recommend import Recommender
from recbole_llmkt.utils.exceptions import LLMKTError

KINDS = ("Rake", "Basil", "Häagen", "日本製", "Bücher")
KEYS = ["--dataset=shop", "--config-files=dataset/shop/shop.yaml", "--profile_encoder=wordllama"]
Row = tuple[str, ...]


def products(count: int) -> list[Row]:
    """Return products with markup, entities, odd ids and paths of categories."""
    rows = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        sku = f"SKU {number}/B" if number % 7 == 0 else f"SKU-{number}"
        text = f"<p>For people who love {kind} &amp; more.</p>" if number % 5 else ""
        rows.append((sku, html.escape(f"Zoë's {kind} & Co. {number}"), f"Shop > {kind}", text))
    return rows


def orders(skus: list[str], customers: range, seed: int) -> list[Row]:
    """Return orders of customers who mostly buy one kind, and some things twice."""
    rows = []
    for customer in customers:
        rng = random.Random(f"{seed} {customer}")
        kind = customer % len(KINDS)
        for order in range(rng.randint(12, 18)):
            pool = skus[kind :: len(KINDS)] if rng.random() < 0.8 else skus
            day = f"2024-{1 + order // 3:02d}-{1 + rng.randrange(28):02d}T10:{customer % 60:02d}:00"
            rows.append((f"c{customer}@example.com", rng.choice(pool[:40]), day))
    return rows


def write(path: str, header: Row, rows: list[Row]) -> None:
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def llmkt(*arguments: str) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def imported(goods: list[Row], bought: list[Row], *flags: str) -> str:
    write("products.csv", ("sku", "name", "category", "description"), goods)
    write("orders.csv", ("email", "sku", "date"), bought)
    return llmkt("import", "orders.csv", "--items=products.csv", "--dataset=shop", *flags)


def lists(checkpoint: str, users: list[str]) -> dict[str, list[tuple[str, float]]]:
    """Return the ten best items of each user, by token."""
    recommendations = Recommender(checkpoint, trust=True).top_k(users, 10)
    return {
        each.user: [(item.token, item.score) for item in each.items] for each in recommendations
    }


def test_a_shop_and_the_same_shop_a_week_later():
    goods = products(300)
    skus = [row[0] for row in goods]
    bought = orders(skus, range(400), seed=1)
    said = imported(goods, bought)
    assert "category is 'category'" in said and "split at '>'" in said
    assert "are with an item that the user had before" in said
    titles = Path("dataset/shop/shop.item").read_text(encoding="utf-8")
    assert "Zoë's Häagen & Co. 2" in titles and "<p>" not in titles and "&amp;" not in titles
    llmkt("profile", *KEYS)
    trained = llmkt("train", *KEYS, "--model=BPR", "--epochs=4", "--kt_entity=both")
    checkpoint = trained.split("Checkpoint: ")[1].splitlines()[0]
    llmkt("export", f"--checkpoint={checkpoint}", "--topk=10", "--output=top10.csv", "--trust")
    customers = list(dict.fromkeys(row[0] for row in bought))
    before = lists(checkpoint, customers)
    exported: dict[str, list[str]] = {}
    with Path("top10.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            exported.setdefault(row["user"], []).append(row["item"])
    assert exported == {user: [item for item, _ in before[user]] for user in before}

    # A week later: two erased, one renamed, three new customers, two new products, other lines.
    erased, renamed = {"c3@example.com", "c7@example.com"}, "c11@example.com"
    later = [
        ("new-name@example.com" if row[0] == renamed else row[0], *row[1:])
        for row in bought
        if row[0] not in erased
    ]
    later += orders(skus, range(500, 503), seed=2)
    random.Random(5).shuffle(later)
    imported(
        [*goods, ("SKU-new", "New", "Shop > New", ""), ("N 2", "N", "Shop", "")],
        later,
        "--overwrite",
    )
    known = [user for user in customers if user not in {*erased, renamed}]
    assert lists(checkpoint, known) == {user: before[user] for user in known}
    for user in (*erased, renamed):
        with pytest.raises(LLMKTError, match=user):
            lists(checkpoint, [user])
