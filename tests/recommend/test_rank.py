from __future__ import annotations

import numpy as np
import pytest
import torch
from recbole.utils.case_study import full_sort_topk

from recbole_llmkt import load_data_and_model
from recbole_llmkt.quick_start import train
from recbole_llmkt.recommend.rank import Ranker
from recbole_llmkt.utils.exceptions import ConfigError, DataError
from tests.helpers import LABELED, add_profiles, ranked_pairs


def checkpoint(dataset, model="BPR", **keys):
    keys = {"kt_enabled": False, "epochs": 1, **keys}
    return train(dataset.config(model, **keys), verbose=False)["checkpoint"]


SEQUENTIAL = {
    "train_neg_sample_args": None,
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
    "MAX_ITEM_LIST_LENGTH": 8,
    "n_layers": 1,
    "n_heads": 1,
    "hidden_size": 8,
    "inner_size": 8,
}
MODELS = {
    "BPR": {},
    "MultiVAE": {"mlp_hidden_size": [8], "latent_dimension": 4},
    "NeuMF": {},  # it has no full_sort_predict
    "SASRec": SEQUENTIAL,
    "BERT4Rec": SEQUENTIAL,  # what it reads is made by a transform
    "DIN": {**SEQUENTIAL, "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}},
}


@pytest.mark.parametrize("model", ["BPR", "MultiVAE", "NeuMF", "SASRec", "BERT4Rec"])
def test_the_ranking_is_that_of_recboles_full_sort(make_dataset, model):
    file = checkpoint(make_dataset(), model, **MODELS[model])
    config, network, _, _, _, test_data = load_data_and_model(file)
    ranker = Ranker(file)
    ids = ranker.all_user_ids()
    assert len(ids) == 30
    scores, items = full_sort_topk(np.array(ids), network, test_data, 5, config["device"])
    for row, ranked in enumerate(ranked_pairs(ranker, ids, 5)):
        assert [item for item, _ in ranked] == items[row].tolist()
        assert [score for _, score in ranked] == pytest.approx(scores[row].tolist(), rel=1e-5)


def test_who_is_known_from_validation_alone_is_refused(make_dataset):
    """An embedding that no training step has touched would rank at random."""
    split = {"split": {"RS": [0.2, 0.6, 0.2]}, "order": "TO", "group_by": None, "mode": "full"}
    ranker = Ranker(checkpoint(make_dataset(per_user=(3, 5)), eval_args=split))
    train, valid = ({*part.inter_feat["user_id"].tolist()} for part in ranker._parts)
    late = sorted(valid - train)
    assert late and not {*late} & {*ranker.all_user_ids()}
    with pytest.raises(DataError, match="no training interactions"):
        ranker.user_ids(ranker.tokens("user", late))


@pytest.mark.parametrize("model", ["BPR", "NeuMF", "SASRec", "DIN", "FM"])
def test_the_size_of_a_batch_changes_nothing(make_dataset, model):
    file = checkpoint(make_dataset(), model, **MODELS.get(model, LABELED))
    ranker = Ranker(file)
    ids = ranker.all_user_ids()
    whole = ranked_pairs(ranker, ids, 5)
    ranker.config["eval_batch_size"] = 7  # fewer than there are items
    for ranking, other in zip(whole, ranked_pairs(ranker, ids, 5)):
        assert [item for item, _ in ranking] == [item for item, _ in other]
        assert [score for _, score in ranking] == pytest.approx([s for _, s in other], rel=1e-4)


def test_what_follows_a_users_last_validation_row_is_the_test_row(make_dataset):
    file = checkpoint(make_dataset(), "SASRec", **SEQUENTIAL)
    ranker = Ranker(file)
    *_, test_data = load_data_and_model(file)
    test = test_data._dataset.inter_feat
    ids = test["user_id"].numpy()
    made = ranker.inputs.of(ids)
    # Some histories are longer than the list, so that the oldest item drops out.
    assert (test["item_length"] == 8).any()
    for field in ("item_id_list", "rating_list", "timestamp_list", "item_length", "user_id"):
        assert torch.equal(made[field], test[field]), field


@pytest.mark.parametrize("keys", [{}, {"numerical_features": ["timestamp"]}])
def test_a_context_aware_model_reads_the_last_known_interaction(make_dataset, keys):
    dataset = make_dataset()
    file = checkpoint(dataset, "FM", **LABELED, **keys)
    ranker = Ranker(file)
    assert ranker.inputs.context_fields == ["timestamp"]
    ids = np.array(ranker.user_ids(["u3", "u4"]))
    known = sorted(int(row[3]) for row in dataset.rows if row[0] == "u3")
    count = len(known)
    last = known[count - int(0.2 * count) - 1]  # RecBole rounds the last parts down
    value = ranker.inputs.of(ids)["timestamp"][0]
    assert float(value.flatten()[0]) == last
    (ranked, _) = ranked_pairs(ranker, ids, 40)
    seen = {
        row[1]
        for row in sorted((r for r in dataset.rows if r[0] == "u3"), key=lambda r: r[3])[
            : count - int(0.2 * count)
        ]
    }
    assert len(ranked) == 40 - len(seen)
    assert not seen & set(ranker.tokens("item", [item for item, _ in ranked]))


def test_a_sequential_model_may_repeat_and_others_may_not(make_dataset):
    dataset = make_dataset(per_user=(30, 38))
    for model, repeats in (("SASRec", True), ("BPR", False)):
        ranker = Ranker(checkpoint(dataset, model, **MODELS[model]))
        (ranked,) = ranked_pairs(ranker, ranker.user_ids(["u1"]), 40)
        assert (len(ranked) == 40) == repeats


def test_refusals(make_dataset):
    ranker = Ranker(checkpoint(make_dataset()))
    with pytest.raises(DataError, match=r"'nobody', '\[PAD\]': no such user in the dataset 'tiny'"):
        ranker.user_ids(["u1", "nobody", "[PAD]"])
    with pytest.raises(ConfigError, match="catalogue has only 40 items"):
        next(ranker.rank([1], 41))
    ranker.model.user_embedding.weight.data[2] = float("nan")
    token = ranker.tokens("user", [2])[0]
    with pytest.raises(DataError, match=f"user '{token}' are not numbers"):
        list(ranker.rank([1, 2], 3))


def with_cold_users(make_dataset):
    dataset = make_dataset()
    test, train = dataset.rows[:30], dataset.rows[30:]
    for part, rows in (("train", train), ("valid", train[-5:]), ("test", test)):
        lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
        lines += ["\t".join(map(str, row)) for row in rows]
        path = dataset.folder / f"tiny.{part}.inter"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    cold = {row[0] for row in test} - {row[0] for row in train}
    assert cold
    keys = {"benchmark_filename": ["train", "valid", "test"]}
    return dataset, cold, keys


def test_a_user_without_training_interactions(make_dataset):
    dataset, cold, keys = with_cold_users(make_dataset)
    ranker = Ranker(checkpoint(dataset, **keys))
    with pytest.raises(DataError, match="no training interactions, so this BPR learned nothing"):
        ranker.user_ids(sorted(cold))
    assert len(ranker.all_user_ids()) == 30 - len(cold)


def test_a_cold_user_with_a_profile_is_ranked_for_where_the_run_filled_their_row(make_dataset):
    dataset, cold, keys = with_cold_users(make_dataset)
    add_profiles(dataset, **keys)
    keys = {**keys, "kt_enabled": True, "epochs": 2, "kt_cold_start": True, "kt_cold_threshold": 0}
    ranker = Ranker(checkpoint(dataset, **keys))
    assert len(ranker.all_user_ids()) == 30
    (ranked,) = ranked_pairs(ranker, ranker.user_ids(sorted(cold)[:1]), 5)
    assert len(ranked) == 5


def test_a_model_with_profiles_as_input_fields(make_dataset):
    dataset = make_dataset()
    add_profiles(dataset, eval_args={**LABELED["eval_args"], "mode": "full"})
    kar = {**LABELED, "kt_enabled": True, "kt_method": "kar"}
    ranker = Ranker(checkpoint(dataset, "DCN", **kar))
    (ranked,) = ranked_pairs(ranker, ranker.user_ids(["u1"]), 5)
    assert len(ranked) == 5 and all(0.0 < score < 1.0 for _, score in ranked)
