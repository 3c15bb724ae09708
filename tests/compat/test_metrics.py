"""Metrics of whole lists, by hand and in runs."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from recbole.evaluator import Evaluator

from recbole_llmkt.compat import MetricsCollector
from recbole_llmkt.quick_start import train

WHOLE_LISTS = ["ItemCoverage", "AveragePopularity", "GiniIndex", "TailPercentage", "ShannonEntropy"]
# Items 1 to 4, of which 4 is never clicked in training.
DATASET = SimpleNamespace(
    item_num=5, user_num=3, item_counter=Counter({1: 3, 2: 1, 3: 1}), user_counter=Counter()
)
SCORES = torch.tensor([[-torch.inf, 4.0, 3.0, 2.0, 1.0], [-torch.inf, 4.0, 2.0, 3.0, 1.0]])
BY_HAND = {
    "itemcoverage@2": 3 / 4,  # items 1, 2 and 3 of four
    "averagepopularity@2": 2.0,  # (3 + 1) / 2 for both
    # Lists hold the items 0, 1, 1 and 2 times: (-3 * 0 - 1 * 1 + 1 * 1 + 3 * 2) / (4 * 4).
    "giniindex@2": 6 / 16,
    "tailpercentage@2": 0.25,  # a third of three trained items: item 2, in one place of four
    "shannonentropy@2": 0.3466,  # (.5 log 2 + 2 * .25 log 4) / 3, as RecBole divides it
    "recall@2": 0.5,  # user 0 has item 1, user 1 has item 4
}


def settings(**keys):
    values = {"metrics": [*WHOLE_LISTS, "Recall"], "topk": [2], "device": "cpu", "tail_ratio": 0.34}
    return {**values, "eval_args": {"mode": "full"}, "metric_decimal_place": 4, **keys}


@pytest.mark.parametrize("times", [1, 2])
def test_values_by_hand(times):
    """The second evaluation of a run has the counts of the first."""
    config = settings()
    collector, evaluator = MetricsCollector(config), Evaluator(config)
    collector.data_collect(SimpleNamespace(_dataset=DATASET))
    for _ in range(times):
        collector.eval_batch_collect(SCORES, None, torch.tensor([0, 1]), torch.tensor([1, 4]))
        result = evaluator.evaluate(collector.get_data_struct())
    assert {key: float(value) for key, value in result.items()} == pytest.approx(BY_HAND)


def test_nothing_is_counted_that_no_metric_needs():
    collector = MetricsCollector(settings(metrics=["Recall"]))
    collector.data_collect(SimpleNamespace(_dataset=SimpleNamespace()))
    assert not collector.data_struct._data_dict


@pytest.mark.parametrize("model", ["BPR", "ItemKNN"])
def test_a_run_has_them(tiny, model):
    keys = {"kt_enabled": False, "epochs": 2, "metrics": [*WHOLE_LISTS, "NDCG"]}
    config = tiny.config(model, valid_metric="GiniIndex@5", **keys)
    assert config["valid_metric_bigger"] is False
    result = train(config, saved=False, verbose=False)
    for part in ("best_valid_result", "test_result"):
        values = result[part]
        assert set(values) == {f"{name.lower()}@5" for name in keys["metrics"]}
        assert 0 < values["itemcoverage@5"] <= 1 and 0 <= values["giniindex@5"] < 1
        assert values["averagepopularity@5"] > 1 and 0 <= values["tailpercentage@5"] <= 1
    assert result["best_valid_score"] == result["best_valid_result"]["giniindex@5"]
