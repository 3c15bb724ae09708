from __future__ import annotations

import numpy as np
import pytest

from recbole_llmkt.datasets.history import interaction_counts
from recbole_llmkt.evaluation.per_user import recorded, user_metrics
from recbole_llmkt.evaluation.slices import slice_metrics, tail_items, wanted_tail
from tests.evaluation.test_per_user import LABELLED
from tests.helpers import prepare

ALL = ["history", "cold_users", "tail_items"]


def measured(dataset, model="BPR", **keys):
    run = prepare(dataset.config(model, kt_enabled=False, kt_slices=ALL, **keys))
    with recorded(run.trainer, wanted_tail(run.config, run.dataset)) as recording:
        result = run.trainer.evaluate(run.test_data, load_best_model=False)
    slices = slice_metrics(run.config, recording, run.dataset)
    return run, result, recording, {(part["slice"], part["part"]): part for part in slices}


@pytest.mark.parametrize(
    ("share", "wanted"),
    [(0.0, []), (0.5, [2, 4]), (0.75, [1, 2, 4]), (1.0, [1, 2, 3, 4]), (0.7, [2, 4])],
)
def test_the_tail_is_what_is_least_popular(share, wanted):
    counts = np.array([99, 5, 1, 9, 1])  # entry 0 is the padding, which is no item
    assert np.flatnonzero(tail_items(counts, share)).tolist() == wanted


def test_items_without_interactions_are_tail_and_ties_go_by_id():
    assert np.flatnonzero(tail_items(np.array([0, 2, 0, 2, 2]), 0.5)).tolist() == [1, 2]


def test_quartiles_are_parts_of_the_whole(tiny):
    run, result, recording, by_slice = measured(tiny, metric_decimal_place=12)
    users = user_metrics(recording, run.dataset)
    parts = [part for (name, _), part in by_slice.items() if name == "history"]
    assert [part["part"].split()[0] for part in parts] == ["shortest", "short", "long", "longest"]
    assert sum(part["users"] for part in parts) == 30
    mean = sum(part["metrics"]["ndcg@5"] * part["users"] for part in parts) / 30
    assert mean == pytest.approx(result["ndcg@5"], abs=1e-9)
    first = users.history <= np.quantile(users.history, 0.25)
    assert parts[0]["users"] == first.sum()
    assert parts[0]["metrics"]["ndcg@5"] == pytest.approx(users.values["ndcg@5"][first].mean())


def test_users_with_equal_histories_stay_together(make_dataset):
    _, _, _, by_slice = measured(make_dataset(per_user=(10, 10)))
    parts = [part for (name, _), part in by_slice.items() if name == "history"]
    assert [part["users"] for part in parts] == [30]


def test_cold_users_by_their_threshold(tiny):
    run, _, _, by_slice = measured(tiny, kt_cold_threshold=7)
    history = interaction_counts(run.dataset)["user"][1:]
    assert by_slice["cold_users", "cold users"]["users"] == (history <= 7).sum() > 0
    _, _, _, by_slice = measured(tiny, kt_cold_threshold=0)
    assert ("cold_users", "cold users") not in by_slice


def test_of_the_tail_only_its_items_are_relevant(tiny):
    """Recall by hand: tail positives in the top 5 of the whole ranking, by tail positives."""
    run, _, _, by_slice = measured(tiny, kt_tail_share=0.6)
    tail = tail_items(interaction_counts(run.dataset)["item"], 0.6)
    recalls = []
    for user_df, history, rows, items in run.test_data:
        scores = run.model.full_sort_predict(user_df).view(-1, 41)
        scores[:, 0] = scores[history] = -np.inf
        top = scores.topk(5).indices
        for row in range(len(user_df)):
            relevant = {int(item) for item in items[rows == row] if tail[item]}
            if relevant:
                recalls.append(len(relevant & set(top[row].tolist())) / len(relevant))
    part = by_slice["tail_items", "tail items"]
    assert part["users"] == len(recalls) < 30
    assert part["metrics"]["recall@5"] == pytest.approx(np.mean(recalls))


def test_all_items_as_tail_are_the_whole(tiny):
    _, result, _, by_slice = measured(tiny, kt_tail_share=1.0, metric_decimal_place=12)
    assert by_slice["tail_items", "tail items"]["metrics"] == pytest.approx(dict(result), abs=1e-9)


def test_labelled_slices_pool_their_rows(tiny):
    _, result, recording, by_slice = measured(tiny, "DeepFM", **LABELLED, kt_tail_share=1.0)
    assert by_slice["tail_items", "tail items"]["metrics"] == pytest.approx(dict(result), abs=1e-9)
    parts = [part for (name, _), part in by_slice.items() if name == "history"]
    rows = sum(part["rows"] for part in parts)
    assert rows == len(recording.rows.users)
    mean = sum(part["metrics"]["logloss"] * part["rows"] for part in parts) / rows
    assert mean == pytest.approx(result["logloss"], abs=1e-6)


def test_no_slices_cost_nothing(tiny):
    run = prepare(tiny.config("BPR", kt_enabled=False))
    assert wanted_tail(run.config, run.dataset) is None
    with recorded(run.trainer) as recording:
        run.trainer.evaluate(run.test_data, load_best_model=False)
    assert recording.tail_rows is None
    assert slice_metrics(run.config, recording, run.dataset) == []
