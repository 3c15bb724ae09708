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
    assert counts["TableFinder"] == 1 and counts["catalog"] == 1
