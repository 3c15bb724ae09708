"""What the tests of tuning share: a plan, and stand-ins for training."""

from __future__ import annotations

import math

from recbole_llmkt.experiment.runs.plan import Plan

PLAN = Plan(["BPR"], ["base", "kt"], [7], "ml-100k", overrides={"epochs": 2})
SHARED = ["learning_rate", "weight_decay"]


def fake_train(config, saved=True, on_epoch=None):
    """Stand in for training: best at a learning rate of .002, and no test figure."""
    assert config["learning_rate"] < 0.015, "too fast"
    on_epoch(0, 0.1)
    score = 1.0 - abs(math.log10(config["learning_rate"] / 0.002)) - 1e3 * config["weight_decay"]
    return {
        "best_valid_score": score,
        "best_valid_result": {"ndcg@10": score},
        "test_result": None,
    }


def forbidden_train(config, saved=True, on_epoch=None):
    raise AssertionError("this trial was done already")


def by_arm(lines):
    return {
        arm: [one for one in lines if one["arm"] == arm]
        for arm in dict.fromkeys(one["arm"] for one in lines)
    }
