"""Tables of a shop's own: they become a dataset that can be read, or nothing is written."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from recbole_llmkt.config import Config
from recbole_llmkt.datasets.checks import check_files
from recbole_llmkt.datasets.importing.reading import Reading
from recbole_llmkt.datasets.importing.run import Import, import_data
from recbole_llmkt.utils.exceptions import LLMKTError
from tests.fuzz.cases import TEXT, as_json, changed, damaged, no_leftovers, survives

ORDER = {"customer": "c1", "product": "p1", "date": "2024-01-02", "rating": "4"}
ORDERS = b"customer,product,date,rating\n" + b"".join(
    f"c{n % 4},p{n % 5},2024-01-{n + 1:02},{n % 5}\n".encode() for n in range(12)
)
ORDER_LINES = b"".join(as_json({**ORDER, "product": f"p{n}"}) + b"\n" for n in range(5))
PRODUCTS = b"product,name,category\n" + b"".join(
    f'p{n},"Lamp, no. {n}",Home > Light\n'.encode() for n in range(5)
)
SEPARATORS = st.sampled_from([None, None, ",", ";", "\t"])
ENCODINGS = st.sampled_from(["utf-8", "utf-8", "latin-1", "utf-16", "cp037", "no-such"])


def imported(job: Import) -> None:
    """Import, and start to read what was written."""
    made = import_data(job)
    keys = {"data_path": str(job.output), "kt_enabled": False, "topk": [1]}
    config = Config("BPR", job.dataset, [str(made.config_file)], keys, command_line=[])
    survives(check_files, config)


def try_to(job: Import) -> None:
    shutil.rmtree(job.output, ignore_errors=True)
    refused = isinstance(survives(imported, job), LLMKTError)
    if refused:
        assert not job.output.exists() or not list(job.output.rglob("*.*"))
    elif job.output.exists():
        no_leftovers(job.output)


@given(
    damaged(ORDERS) | st.just(ORDERS),
    damaged(PRODUCTS) | st.just(PRODUCTS),
    SEPARATORS,
    ENCODINGS,
    st.booleans(),
)
@example(ORDERS.replace(b"c1", b"").replace(b"p2", b'"'), PRODUCTS, None, "utf-8", True)
@example(ORDERS.replace(b"2024-01-03", b"99999-01-01"), PRODUCTS, None, "utf-8", False)
def test_csv(tmp_path, orders, products, separator, encoding, skip):
    source, items = tmp_path / "orders.csv", tmp_path / "products.csv"
    source.write_bytes(orders)
    items.write_bytes(products)
    reading = Reading(encoding, separator, ("NULL",))
    job = Import(source, "shop", tmp_path / "data", items=items, reading=reading)
    try_to(Import(**{**vars(job), "skip_bad_rows": skip}))


@given(
    st.sampled_from(["orders.jsonl", "orders.jsonl.gz", "orders.csv.gz", "orders.parquet"]),
    damaged(ORDER_LINES) | changed(ORDER).map(as_json) | st.just(ORDER_LINES),
)
@example("orders.jsonl", b"[" * 100_000 + b"\n")
@example("orders.jsonl", as_json({**ORDER, "customer": "\ud800"}))
@example("orders.jsonl", b'{"customer": 1e400, "product": [], "date": {}}\n')
def test_other_tables(tmp_path, name, content):
    source = tmp_path / name
    packed = gzip.compress(content) if name.endswith(".jsonl.gz") else content
    source.write_bytes(packed)
    try_to(Import(source, "shop", tmp_path / "data", skip_bad_rows=True))


@given(
    st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=4), st.sampled_from(["", "%d.%m"])
)
@example([("u", "i", "9223372036854775258244186112")], "")
@example([("u", "i", "1e300"), ("u", "j", "-1e300")], "")
@example([("u", "i", "99999999999")], "")
def test_any_cells(tmp_path, rows, form):
    source = tmp_path / "orders.csv"
    lines = [",".join(f'"{cell}"' for cell in row) for row in rows]
    text = "\n".join(["user,item,time", *lines]) + "\n"
    source.write_bytes(text.encode(errors="surrogatepass"))
    try_to(Import(source, "shop", tmp_path / "data", time_format=form or None, skip_bad_rows=True))


def test_the_tables_that_the_cases_start_from_are_imported(tmp_path):
    for name, content in (("orders.csv", ORDERS), ("orders.jsonl", ORDER_LINES)):
        Path(tmp_path, name).write_bytes(content)
        assert import_data(Import(tmp_path / name, "shop", tmp_path / name[7:])).report
