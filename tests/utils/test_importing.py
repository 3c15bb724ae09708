from __future__ import annotations

import sys
from collections import Counter

import pytest

from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.importing import import_class


def test_a_class_is_imported_by_its_path():
    assert import_class("collections.Counter") is Counter


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_module.Class", "Cannot import 'no_such_module.Class': .*package.module.Class"),
        ("collections.Missing", "Cannot import 'collections.Missing': .*Missing"),
        ("Counter", "Cannot import 'Counter'"),
        (".relative.Class", "Cannot import '.relative.Class'"),
        ("collections.namedtuple", "'collections.namedtuple' is not a class"),
    ],
)
def test_what_cannot_be_imported_is_named(path, message):
    with pytest.raises(ConfigError, match=message):
        import_class(path)


def test_a_fault_inside_the_users_module_is_named_and_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "module_with_a_fault.py").write_text("1 / 0")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(ConfigError, match="ZeroDivisionError: division by zero") as caught:
        import_class("module_with_a_fault.Class")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)  # what --debug shows
