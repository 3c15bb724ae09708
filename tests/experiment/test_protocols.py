"""Comparisons by sampled candidates and by labels, from the runs to the report."""

from __future__ import annotations

import csv

import pytest

from recbole_llmkt.config import Config
from recbole_llmkt.evaluation.per_user import UserMetrics
from recbole_llmkt.experiment.report.embedding_map import ensure_maps
from recbole_llmkt.experiment.report.report import make_report
from recbole_llmkt.experiment.runs.compare import compare
from recbole_llmkt.experiment.runs.plan import Plan
from tests.evaluation.test_per_user import LABELLED


@pytest.mark.parametrize("given", ["{mode: uni100}", {"mode": "uni100"}])
def test_other_candidates_keep_the_datasets_split(given):
    config = Config("BPR", "ml-100k", config_dict={"eval_args": given}, command_line=[])
    assert config["eval_args"] == {
        "split": {"RS": [0.7, 0.1, 0.2]},
        "order": "TO",
        "group_by": "user",
        "mode": {"valid": "uni100", "test": "uni100"},
    }
    again = Config(config_dict=config.plain(), command_line=[])
    assert again["eval_args"] == config["eval_args"]


def test_the_rest_of_eval_args_is_recboles_own(tiny):
    given = {"eval_args": {"mode": "uni100"}, "data_path": str(tiny.data_path)}
    config = Config("BPR", "tiny", config_dict=given, command_line=[])
    assert config["eval_args"]["split"] == {"RS": [0.8, 0.1, 0.1]}
    assert config["eval_args"]["order"] == "RO"


def test_a_comparison_by_sampled_candidates(tiny, tmp_path):
    eval_args = {**tiny.settings()["eval_args"], "mode": "uni10"}
    keys = tiny.settings(epochs=2, eval_args=eval_args, metric_decimal_place=10)
    plan = Plan(["BPR"], ["base", "kt"], [1], "tiny", overrides=keys)
    records = compare(plan, tmp_path, jobs=2, when_done=ensure_maps)
    assert [record.error for record in records] == ["", ""]
    for record in records:
        users = UserMetrics.load(tmp_path / "runs" / record.name / "users.npz")
        mean = users.values["ndcg@5"].mean()
        assert mean == pytest.approx(record.test["ndcg@5"], abs=1e-6)
        assert {part.slice for part in record.slices} == {"history", "tail_items"}
    text = make_report(tmp_path)
    assert "BPR, kt, NDCG@5" in text
    (test,) = csv.DictReader((tmp_path / "tests.csv").open())
    assert (test["users"], test["seeds"], test["rival"]) == ("30", "1", "base")
    assert 0 < float(test["holm_p"]) <= 1
    assert (tmp_path / "embedding_map.npz").exists() and (tmp_path / "map.png").exists()
    assert "<h2>Profiles</h2>" in (tmp_path / "report.html").read_text()


def test_a_comparison_by_labels_knows_which_way_is_better(tiny, tmp_path, undrawn):
    keys = tiny.settings(**{**LABELLED, "epochs": 2, "profile_allow_leak": True})
    plan = Plan(["DeepFM"], ["base", "kt"], [1], "tiny", overrides=keys)
    records = compare(plan, tmp_path, jobs=2, when_done=ensure_maps)
    assert [record.error for record in records] == ["", ""]
    text = make_report(tmp_path)
    assert "LOGLOSS ↓" in text and "lower is better" in text and "AUC ↓" not in text
    rows = {
        (row["arm"], row["metric"]): row
        for row in csv.DictReader((tmp_path / "summary.csv").open())
    }
    base, kt = (record.test for record in records)
    for metric, sign in (("auc", 1), ("logloss", -1)):
        gain = sign * 100 * (kt[metric] / base[metric] - 1)
        assert float(rows["kt", metric]["gain_percent_mean"]) == pytest.approx(gain, abs=1e-3)
    (test,) = csv.DictReader((tmp_path / "tests.csv").open())
    assert test["metric"] == "auc" and int(test["users"]) > 0
