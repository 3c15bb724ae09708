from __future__ import annotations

import numpy as np
import pytest
from recbole.evaluator.metrics import AUC, MAE, RMSE, LogLoss

from recbole_llmkt.config import Config
from recbole_llmkt.evaluation.labelled import auc_by_group, is_vectorised
from recbole_llmkt.evaluation.per_user import LabelledRows


class Bias(MAE):
    """A metric of somebody's own."""

    def metric_info(self, preds, trues):
        return float((preds - trues).mean())


@pytest.fixture
def rows():
    """Return 400 rows of 60 users: ties, users of one row, users of one label."""
    rng = np.random.default_rng(3)
    users = np.sort(rng.integers(0, 60, 400))
    rng.shuffle(users)
    users[:3] = [70, 71, 72]
    scores = np.round(rng.random(400), 1).astype(np.float32).clip(0.05, 0.95)
    labels = (rng.random(400) < 0.4).astype(np.float32)
    labels[users < 5] = 1
    config = Config("BPR", "ml-100k", config_dict={"metric_decimal_place": 4}, command_line=[])
    classes = {"auc": AUC, "mae": MAE, "rmse": RMSE, "logloss": LogLoss, "bias": Bias}
    functions = {name: metric(config) for name, metric in classes.items()}
    return LabelledRows(users.astype(np.int64), users, scores, labels, functions)


def test_every_user_has_recboles_own_values(rows):
    ids, counts, values = rows.by_user()
    assert list(values) == list(rows.functions)
    assert counts.sum() == 400 and 1 in counts and len(ids) > 50
    for place, user in enumerate(ids):
        own = rows.metrics(rows.users == user)
        for name, value in own.items():
            assert values[name][place] == pytest.approx(value, abs=1e-6, nan_ok=True), (user, name)
    assert np.isnan(values["auc"]).any() and not np.isnan(values["auc"]).all()


def test_only_recboles_own_metrics_are_computed_for_all_users_at_once(rows):
    known = {name for name, metric in rows.functions.items() if is_vectorised(metric)}
    assert known == {"auc", "mae", "rmse", "logloss"}


def test_known_metrics_are_never_computed_user_by_user(rows, monkeypatch):
    monkeypatch.delitem(rows.functions, "bias")
    monkeypatch.setattr(LabelledRows, "metrics", None)
    assert set(rows.by_user()[2]) == {"auc", "mae", "rmse", "logloss"}


def test_area_by_hand():
    group = np.array([1, 0, 0, 0, 1, 2])
    scores = np.array([0.3, 0.9, 0.1, 0.1, 0.7, 0.5], dtype=np.float32)
    labels = np.array([1, 1, 0, 1, 0, 1], dtype=np.float32)
    # Group 0: (0.9, 0.1) against 0.1 is one right pair and one tie; group 1: one wrong pair.
    assert auc_by_group(group, scores, labels) == pytest.approx([0.75, 0.0, np.nan], nan_ok=True)
