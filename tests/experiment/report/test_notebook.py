"""A comparison's results in a notebook."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

import recbole_llmkt
from recbole_llmkt.utils.exceptions import ConfigError, DataError


@pytest.fixture
def folder(tmp_path):
    run = {"model": "BPR", "dataset": "ml", "digest": "d", "seconds": 2.0}
    runs = [
        {**run, "arm": "kt", "seed": 1, "status": "failed", "error": "no memory"},
        {**run, "arm": "base", "seed": 2, "status": "ok", "epochs": 3, "test": {"ndcg@10": 0.3}},
        {**run, "arm": "base", "seed": 1, "status": "ok", "epochs": 3, "test": {"ndcg@10": 0.1}},
    ]
    lines = [json.dumps(line) for line in runs]
    (tmp_path / "results.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_a_row_for_each_run(folder):
    table = recbole_llmkt.results(str(folder))
    assert list(table) == [
        *("model", "arm", "seed", "status", "ndcg@10", "epochs", "seconds", "error")
    ]
    assert table[["arm", "seed", "status"]].values.tolist() == [
        ["base", 1, "ok"],
        ["base", 2, "ok"],
        ["kt", 1, "failed"],
    ]
    assert table.groupby("arm")["ndcg@10"].mean()["base"] == pytest.approx(0.2)
    assert np.isnan(table["ndcg@10"][2]) and table["error"][2] == "no memory"


def test_a_picture_by_its_name(folder):
    figure = recbole_llmkt.plot(folder, "summary")
    assert isinstance(figure, Figure) and figure.axes[0].get_title() == "NDCG@10"


def test_what_cannot_be_shown_is_said(folder, tmp_path):
    with pytest.raises(ConfigError, match="plot: 'loss' is no picture; choose from gains, "):
        recbole_llmkt.plot(folder, "loss")
    with pytest.raises(DataError, match="hold nothing that the picture 'curves' shows"):
        recbole_llmkt.plot(folder, "curves")
    for function in (recbole_llmkt.results, recbole_llmkt.plot):
        with pytest.raises(DataError, match="No results in"):
            function(tmp_path / "elsewhere")
