"""``llmkt export``: vectors and recommendations out of the house."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from recbole_llmkt.cli.main import main
from recbole_llmkt.quick_start import train
from recbole_llmkt.recommend import Recommender
from tests.helpers import limited_files


def run(*arguments):
    done = CliRunner().invoke(main, ["export", *arguments])
    assert "Traceback" not in done.output
    return done


@pytest.fixture
def checkpoint(make_dataset):
    config = make_dataset().config(kt_enabled=False, epochs=1)
    return train(config, verbose=False)["checkpoint"]


def test_vectors_and_recommendations_agree(checkpoint):
    done = run(f"--checkpoint={checkpoint}", "--output=out", "--format=npz")
    assert done.exit_code == 0, done.output
    assert "users.npz: 30 vectors of width 8" in done.output
    done = run(f"--checkpoint={checkpoint}", "--output=out/top.csv", "-k", "3")
    assert done.exit_code == 0 and "3 items each for 30 users" in done.output
    with np.load("out/users.npz") as users, np.load("out/items.npz") as items:
        vectors = dict(zip(users["id"], users["vector"]))
        table = dict(zip(items["id"], items["vector"]))
    with open("out/top.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 90
    for row in rows:
        score = float(vectors[row["user"]] @ table[row["item"]])
        assert score == pytest.approx(float(row["score"]), rel=1e-4)
    (first,) = Recommender(checkpoint).top_k([rows[0]["user"]], k=3)
    assert [item.token for item in first.items] == [row["item"] for row in rows[:3]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output=out", "--where=a=b"], "for recommendations: add --topk=10"),
        (["--output=out", "--users=u1"], "for recommendations: add --topk=10"),
        (["--output=out.parquet", "--format=npz"], "vectors go to a folder"),
        (["--output=out", "--format=csv"], "format 'csv' cannot .* choose parquet, npz"),
        (["--output=out", "--topk=3"], "format '' cannot .* choose parquet, csv, jsonl"),
        (["--output=out.csv", "--topk=3", "--format=npz"], "--format is for vectors"),
        (["--output=out.csv", "--topk=41"], "the catalogue has only 40 items"),
        (["--output=out.csv", "--topk=3", "--users=nobody"], "'nobody': no such user"),
    ],
)
def test_bad_input_is_one_message_and_nothing_is_written(checkpoint, arguments, message):
    before = sorted(Path().iterdir())
    done = run(f"--checkpoint={checkpoint}", *arguments)
    assert done.exit_code == 2
    assert re.search(message, done.output), done.output
    assert sorted(Path().iterdir()) == before


def test_it_writes_nothing_but_its_output(checkpoint):
    shutil.rmtree("log")  # served from a folder that is read-only
    assert run(f"--checkpoint={checkpoint}", "--output=out").exit_code == 0
    assert not Path("log").exists()


@pytest.mark.parametrize("more", [["--output=out", "--format=npz"], ["--output=o.csv", "-k", "3"]])
def test_a_full_disk_names_the_option(checkpoint, more):
    with limited_files() as limit:
        limit(100)
        done = run(f"--checkpoint={checkpoint}", *more)
    assert done.exit_code == 2
    assert "Free some space there, or name a folder on another disk with --output." in done.output
