"""What the methods of a run share is read and found out once."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from recbole_llmkt.quick_start import train
from recbole_llmkt.transfer import context
from recbole_llmkt.transfer.auxiliary import settings
from recbole_llmkt.transfer.context import RunContext, entities_of
from recbole_llmkt.utils.exceptions import LayerError
from tests.helpers import prepare

EVERY_METHOD = {
    "kt_entity": "both",
    "kt_init": "targets",
    "kt_hybrid": "linear",
    "kt_cold_start": True,
    "epochs": 2,
}
SUFFIXES = (".jsonl", ".json", ".npy")
_counting: list[Counter[str]] = []  # an audit hook stays: it counts for whom this holds


def _audit(event, arguments):
    if event == "open" and _counting and isinstance(arguments[0], str):
        path = Path(arguments[0])
        if path.suffix in (".jsonl", ".json") and path.stem in ("user", "item"):
            _counting[0][path.name] += 1


sys.addaudithook(_audit)


@pytest.fixture
def counts(monkeypatch):
    """Count how often files are opened, vectors loaded, and the model searched."""
    counter: Counter[str] = Counter()

    def count(module, name, label=None):
        original = getattr(module, name)

        def counting(*arguments, **keywords):
            counter[label or Path(arguments[0]).name] += 1
            return original(*arguments, **keywords)

        monkeypatch.setattr(module, name, counting)

    count(np, "load")  # it opens a file several times to map it
    count(context, "TableFinder", "TableFinder")
    for module in (context, settings):
        count(module, "catalog", "catalog")
    _counting.append(counter)
    yield counter
    _counting.clear()


def test_a_run_with_every_method_reads_each_file_and_searches_the_model_once(tiny, counts):
    result = train(tiny.config("BPR", **EVERY_METHOD), verbose=False)
    assert {"terms", "init", "hybrid", "cold_start"} <= {*result["transfer"]}
    files = [f"{entity}{suffix}" for entity in ("user", "item") for suffix in SUFFIXES]
    assert {name: counts[name] for name in files} == dict.fromkeys(files, 1)
    assert counts["TableFinder"] == 1 and counts["catalog"] <= 1


@pytest.mark.parametrize(
    ("setting", "entities"),
    [
        ("both", ["user", "item"]),
        ("item", ["item"]),
        (["item", "user", "item"], ["item", "user"]),
    ],
)
def test_entities_of_a_setting(setting, entities):
    assert entities_of(setting) == entities


@pytest.fixture
def run(make_dataset):
    dataset = make_dataset(n_users=6, n_items=9, per_user=(5, 6))
    return prepare(dataset.config(kt_enabled=False, kt_entity="both"))


def test_the_model_is_inspected_once_whatever_is_asked(run, monkeypatch):
    made = []
    finder = context.TableFinder
    monkeypatch.setattr(
        context, "TableFinder", lambda *arguments: made.append(1) or finder(*arguments)
    )
    shared = RunContext(run.config, run.model, run.train_data)
    assert [str(table) for table in shared.tables(["user"])["user"]] == [
        "user_embedding.weight[0..6] (user)"
    ]
    assert list(shared.written_tables()) == ["user", "item"]
    assert made == [1]
    assert shared.places is shared.places


def test_no_table_is_wide_enough(run):
    shared = RunContext(run.config, run.model, run.train_data)
    assert list(shared.written_tables(min_width=8)) == ["user", "item"]
    with pytest.raises(LayerError, match="BPR has no table with a row for every user or item"):
        shared.written_tables(min_width=9)
