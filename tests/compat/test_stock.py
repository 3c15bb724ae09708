"""Stock RecBole, in a process of its own: it imports, trains, saves, evaluates and loads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import dok_matrix

from recbole_llmkt.compat import stock_recbole
from recbole_llmkt.stock import main as run_stock_script
from tests.helpers import in_fork

SCRIPT = """
from recbole.quick_start import run_recbole

for name in ("BPR", "LightGCN"):
    result = run_recbole(name, "tiny", config_dict={settings})
    print("RESULT", name, 0.0 < result["test_result"]["ndcg@5"] < 1.0)
"""
LOADING = """
import glob
from recbole.quick_start import load_data_and_model

for file in sorted(glob.glob("saved/*.pth")):
    config, model, dataset, train_data, valid_data, test_data = load_data_and_model(file)
    print("LOADED", type(model).__module__, dataset.user_num)
"""


def run_stock(text: str) -> subprocess.CompletedProcess[str]:
    Path("script.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "recbole_llmkt.stock", "script.py"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_stock_recbole_trains_saves_evaluates_and_loads(make_dataset):
    settings = make_dataset().settings(use_gpu=False, checkpoint_dir="saved")
    done = run_stock(SCRIPT.replace("{settings}", repr(settings)))
    assert re.findall("RESULT .*", done.stdout) == ["RESULT BPR True", "RESULT LightGCN True"], (
        done.stderr[-2000:]
    )
    assert "Warning" not in done.stderr
    Path("loading.py").write_text(LOADING)
    done = in_fork(run_stock_script, "loading.py")  # no Config of its process made these
    modules = [f"recbole.model.general_recommender.{name}" for name in ("bpr", "lightgcn")]
    loaded = re.findall("LOADED .*", done.stdout)
    assert loaded == [f"LOADED {module} 31" for module in modules], done.stderr[-2000:]


def test_without_a_script_one_sentence_says_what_to_write():
    for arguments in ([], ["absent.py"]):
        done = subprocess.run(
            [sys.executable, "-m", "recbole_llmkt.stock", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "python -m recbole_llmkt.stock run_recbole.py" in line


class Noted:
    """Unpickles by running code."""

    def __reduce__(self):
        return (open, ("ran", "w"))


def test_pickles_are_read_within_the_block_alone():
    torch.save({"config": Noted()}, "stock.pth")
    with stock_recbole():
        torch.load("stock.pth")["config"].close()
    assert Path("ran").exists()
    Path("ran").unlink()
    if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 6):
        with pytest.raises(Exception, match=r"[Ww]eights.only"):
            torch.load("stock.pth")
        assert not Path("ran").exists()


def test_nothing_is_left_behind():
    def state():
        names = {name: name in vars(np) for name in ("float_", "complex_", "unicode_", "bool8")}
        patched = (torch.load, pd.read_csv, pd.Series.agg, vars(dok_matrix).get("_update"))
        kept = {name: sys.modules.get(name) for name in ("ray", "ray.tune", "kmeans_pytorch")}
        return names, patched, kept, torch.is_anomaly_enabled()

    before = state()
    with pytest.raises(ZeroDivisionError), stock_recbole():
        assert np.float_ is np.float64 and np.bool8 is np.bool_
        assert torch.load is not before[1][0]
        import recbole.model.sequential_recommender  # noqa: F401

        1 / 0  # noqa: B018
    assert state() == before


def test_the_objective_function_reports_to_nobody_outside_of_a_trial(tiny):
    with stock_recbole():
        from recbole.quick_start import objective_function

        settings = tiny.settings(model="BPR", dataset="tiny", epochs=1, use_gpu=False)
        result = objective_function(settings, saved=False)
    assert set(result["test_result"]) == {"recall@5", "ndcg@5"}
