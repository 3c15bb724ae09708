"""Sparse worlds: nested samples, the same test, and a place for every user in a sequence."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

FILE = Path(__file__).parent.parent.parent / "benchmarks" / "worlds.py"


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("worlds_script", FILE)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def table(users, n_items=30, seed=0):
    items = np.random.default_rng(seed).integers(0, n_items, len(users)).astype(str)
    return pd.DataFrame({"user_id:token": users, "item_id:token": items})


def parts():
    users = np.repeat(["a", "b", "c", "d"], 25)
    one_each = ["a", "b", "c", "d"]
    return [table(users), table(one_each, seed=1), table(one_each, seed=2)]


def test_samples_are_nested_and_the_test_is_always_the_same(module):
    tables = parts()
    made = module.worlds(tables, [100, 20, 5])
    assert [len(made[name][0]) for name in ("100", "20", "5")] == [100, 20, 5]
    assert {*made["5"][0].index} < {*made["20"][0].index} < {*tables[0].index}
    assert all(made[name][1] is tables[1] and made[name][2] is tables[2] for name in made)
    cold = {*tables[0]["item_id:token"]} - {*made["cold"][0]["item_id:token"]}
    assert len(cold) == round(0.1 * tables[0]["item_id:token"].nunique())


def test_every_user_keeps_the_last_clicks_of_a_sequence(module):
    tables = parts()
    made = module.sequences(tables, [100, 12])
    for name, length in (("seq-100", 27), ("seq-12", None)):
        for user, own in made[name].groupby("user_id:token"):
            whole = pd.concat(tables)[lambda rows, user=user: rows["user_id:token"] == user]
            items, expected = own["item_id:token"].tolist(), whole["item_id:token"].tolist()
            assert items[-4:] == expected[-4:]  # two that train, one that validates, the test
            assert own["timestamp:float"].tolist() == list(range(len(own)))
            assert length is None or items == expected
    assert len(made["seq-12"]) == 12 + 8


@pytest.mark.parametrize("shares", ["0", "101", "x", "5,", "-5", "2.5"])
def test_a_wrong_share_is_refused_in_one_line(module, shares, tmp_path):
    words = ["ml-100k", f"--output={tmp_path / 'data'}", f"--shares={shares}"]
    result = CliRunner().invoke(module.main, words)
    assert result.exit_code == 2 and "give percents such as 100,20,5" in result.output
    assert not (tmp_path / "data").exists()
