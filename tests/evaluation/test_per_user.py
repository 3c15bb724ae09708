from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_llmkt.datasets.history import interaction_counts
from recbole_llmkt.evaluation.per_user import UserMetrics, recorded, user_metrics
from recbole_llmkt.quick_start import train
from recbole_llmkt.utils.exceptions import DataError
from tests.helpers import prepare

TOPK = {
    "metrics": ["Recall", "MRR", "NDCG", "Hit", "Precision", "MAP", "ShannonEntropy"],
    "topk": [3, 5],
    "metric_decimal_place": 12,
}
LABELLED = {
    "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
    "threshold": {"rating": 3},
    "eval_args": {
        "split": {"RS": [0.6, 0.2, 0.2]},
        "order": "RO",
        "group_by": "none",
        "mode": "labeled",
    },
    "train_neg_sample_args": None,
    "metrics": ["AUC", "LogLoss", "RMSE"],
    "valid_metric": "AUC",
    "metric_decimal_place": 12,
}
MODES = {
    "full": {},
    "no full_sort_predict": {"model": "NeuMF"},
    "context": {"model": "FM"},
    "uni10": {"mode": "uni10"},
}


def prepared(dataset, model="BPR", **keys):
    run = prepare(dataset.config(model, kt_enabled=False, **keys))
    run.trainer.eval_collector.data_collect(run.train_data)  # as fit does
    return run


def evaluated(dataset, model="BPR", **keys):
    """Evaluate an untrained model on the test part, listened to."""
    run = prepared(dataset, model, **keys)
    with recorded(run.trainer) as recording:
        result = run.trainer.evaluate(run.test_data, load_best_model=False)
    return run, result, user_metrics(recording, run.dataset)


@pytest.mark.parametrize("case", MODES)
def test_the_mean_over_users_is_recboles_own_number(tiny, case):
    keys = dict(MODES[case])
    model, mode = keys.pop("model", "BPR"), keys.pop("mode", "full")
    eval_args = {**tiny.settings()["eval_args"], "mode": mode}
    run, result, users = evaluated(tiny, model, eval_args=eval_args, eval_batch_size=200, **TOPK)
    assert set(result) - set(users.values) == {"shannonentropy@3", "shannonentropy@5"}
    for name, value in users.values.items():
        assert value.mean() == pytest.approx(result[name], abs=1e-9), name
    assert users.values["ndcg@5"].mean() > 0 and np.ptp(users.values["ndcg@5"]) > 0
    assert (users.rows == 1).all()
    wanted = {user for user, *_ in tiny.rows}
    assert set(users.tokens.tolist()) == wanted
    counts = interaction_counts(run.dataset)["user"]
    ids = [run.dataset.token2id("user_id", token) for token in users.tokens]
    assert users.history.tolist() == counts[ids].tolist()


def test_a_users_value_is_that_users(tiny):
    """Rank by hand, with scores of our own."""
    run = prepared(tiny, **TOPK)
    table = np.random.default_rng(1).random((31, 41)).astype(np.float32)
    run.model.full_sort_predict = lambda batch: torch.from_numpy(table)[batch["user_id"]].flatten()
    with recorded(run.trainer) as recording:
        run.trainer.evaluate(run.test_data, load_best_model=False)
    users = user_metrics(recording, run.dataset)
    test, known = run.test_data._dataset.inter_feat, [run.dataset, run.valid_data._dataset]
    for token, recall in zip(users.tokens, users.values["recall@5"]):
        user = run.dataset.token2id("user_id", token)
        seen = {int(i) for part in known for u, i in _pairs(part.inter_feat) if u == user}
        relevant = {int(i) for u, i in _pairs(test) if u == user}
        scores = {i: table[user, i] for i in range(1, 41) if i not in seen}
        top = sorted(scores, key=lambda item: -scores[item])[:5]
        assert recall == pytest.approx(len(relevant & set(top)) / len(relevant))


def _pairs(feat):
    return zip(feat["user_id"].tolist(), feat["item_id"].tolist())


def test_labelled_rows(tiny):
    _, result, users = evaluated(tiny, "DeepFM", **LABELLED)
    weighted = np.average(users.values["logloss"], weights=users.rows)
    assert weighted == pytest.approx(result["logloss"], abs=1e-7)
    assert set(users.values) == {"auc", "logloss", "rmse"}
    known = users.values["auc"][~np.isnan(users.values["auc"])]
    assert 0 < len(known) <= len(users.tokens) and ((known >= 0) & (known <= 1)).all()
    one_label = np.isnan(users.values["auc"])
    assert users.rows[one_label].min() >= 1


def test_several_rows_of_a_user(tiny):
    """A sequential model is evaluated once for each held-out interaction."""
    keys = {"train_neg_sample_args": None, "MAX_ITEM_LIST_LENGTH": 10, **TOPK}
    eval_args = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "group_by": "user"}
    _, result, users = evaluated(tiny, "GRU4Rec", eval_args={**eval_args, "mode": "full"}, **keys)
    assert users.rows.max() > 1
    for name, value in users.values.items():
        assert np.average(value, weights=users.rows) == pytest.approx(result[name], abs=1e-9)


def test_listening_changes_nothing(tiny):
    run = prepared(tiny, **TOPK)
    before = run.trainer.evaluate(run.test_data, load_best_model=False)
    with recorded(run.trainer, np.ones(41, dtype=bool)):
        during = run.trainer.evaluate(run.test_data, load_best_model=False)
    after = run.trainer.evaluate(run.test_data, load_best_model=False)
    assert before == during == after
    assert "eval_batch_collect" not in vars(run.trainer.eval_collector)
    assert "evaluate" not in vars(run.trainer.evaluator)


def test_a_run_tells_its_users_and_the_file_holds_them(tiny, tmp_path):
    keys = {"metric_decimal_place": 10, "kt_enabled": False, "kt_slices": ["history"]}
    result = train(tiny.config("BPR", **keys), saved=False, verbose=False)
    users = result["users"]
    assert users.values["ndcg@5"].mean() == pytest.approx(result["test_result"]["ndcg@5"], abs=1e-6)
    assert [part["slice"] for part in result["slices"]] == ["history"] * 4
    path = tmp_path / "deep" / "users.npz"
    users.save(path)
    again = UserMetrics.load(path)
    assert again.tokens.tolist() == users.tokens.tolist()
    assert again.rows.tolist() == users.rows.tolist()
    assert again.values.keys() == users.values.keys()
    assert again.values["ndcg@5"].tolist() == users.values["ndcg@5"].tolist()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04cut short", b"\x93NUMPY"])
def test_an_unreadable_file_is_one_clear_error(tmp_path, content):
    path = tmp_path / "users.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"users\.npz: not readable .*Delete the file"):
        UserMetrics.load(path)


def test_a_single_array_is_no_file_of_users(tmp_path):
    np.save(tmp_path / "users.npy", np.ones(3))
    (tmp_path / "users.npy").rename(tmp_path / "users.npz")
    with pytest.raises(DataError, match="Delete the file"):
        UserMetrics.load(tmp_path / "users.npz")


def test_a_file_with_a_flipped_bit_is_one_clear_error(tmp_path):
    path = tmp_path / "users.npz"
    arrays = {"tokens": np.array(["a"] * 99), "rows": np.ones(99, int), "history": np.ones(99, int)}
    UserMetrics(**arrays, values={"ndcg@5": np.random.default_rng(0).random(99)}).save(path)
    content = bytearray(path.read_bytes())
    for place in range(50, len(content) - 100, 7):
        broken = content.copy()
        broken[place] ^= 0xFF
        path.write_bytes(bytes(broken))
        try:
            UserMetrics.load(path)
        except DataError as error:
            assert "Delete the file" in str(error)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": None}, "'tokens' is missing"),
        ({"tokens": np.arange(3)}, "'tokens' has shape"),
        ({"tokens": np.array([["a"]])}, "'tokens' has shape"),
        ({"rows": np.ones(2, int)}, "'rows' has shape"),
        ({"rows": np.ones(3)}, "'rows' has shape .* type float64"),
        ({"history": np.array("x")}, "'history' has shape"),
        ({"metric ndcg@5": np.ones(2)}, "'metric ndcg@5' has shape"),
        ({"metric ndcg@5": np.array(["a", "b", "c"])}, "'metric ndcg@5' has shape"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, changes, message):
    path = tmp_path / "users.npz"
    ones = np.ones(3, dtype=np.int64)
    arrays = {"tokens": np.array(["a", "b", "c"]), "rows": ones, "history": ones}
    arrays = {**arrays, "metric ndcg@5": np.ones(3), **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(DataError, match=rf"users\.npz: .*{message}.*Delete the file"):
        UserMetrics.load(path)
