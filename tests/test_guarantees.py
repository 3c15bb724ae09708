"""Each promise of docs/guarantees.md names the tests that hold it, and they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def unnamed(page: str) -> list[str]:
    """Return the promises in a page's tables that name no test."""
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith(("| promise", "| ---"))]
    return [row for row in promises if not _TEST.search(row)]


def missing(page: str) -> list[str]:
    """Return the tests that a page names and that do not exist."""
    return [f"{path}::{name}" for path, name in _TEST.findall(page) if name not in functions(path)]


def functions(path: str) -> set[str]:
    if not (ROOT / path).is_file():
        return set()
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_promise_has_a_test_that_exists():
    assert len(_TEST.findall(PAGE)) > 30
    assert unnamed(PAGE) == [] and missing(PAGE) == []


def test_what_does_not_exist_is_found():
    row = "| A promise. | `tests/test_guarantees.py::test_nothing`, `tests/none.py::test_it` |"
    assert missing(row) == ["tests/test_guarantees.py::test_nothing", "tests/none.py::test_it"]
    assert unnamed("| promise | tests |\n| --- | --- |\n| A promise. | none |") == [
        "| A promise. | none |"
    ]
