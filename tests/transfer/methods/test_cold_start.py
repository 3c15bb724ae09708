"""Embeddings of cold users and items, from a ridge regression on their profiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_llmkt.datasets.history import interaction_counts, training_histories
from recbole_llmkt.profiles.loading import RunProfiles, load_profiles
from recbole_llmkt.quick_start import load_data_and_model
from recbole_llmkt.transfer.methods.cold_start import ColdStart, filled_tables
from recbole_llmkt.utils.exceptions import LayerError, ProfileError
from tests.helpers import (
    DIM_TEXT,
    add_profiles,
    prepare,
    random_vectors,
    same_parameters,
    write_profiles,
)

COLD = {"kt_cold_start": True, "kt_cold_threshold": 8, "kt_weight": 0}
USERWISE = {"train_neg_sample_args": None, "mlp_hidden_size": [16]}


def counts_by_file(run):
    """Training interactions of each user, counted from RecBole's rows."""
    users = run.dataset.inter_feat["user_id"].numpy()
    return np.bincount(users, minlength=run.dataset.user_num)


def test_counts_are_those_of_the_training_split(tiny):
    run = prepare(tiny.config("BPR", kt_enabled=False))
    counts = interaction_counts(run.dataset)
    np.testing.assert_array_equal(counts["user"], counts_by_file(run))
    items = run.dataset.inter_feat["item_id"].numpy()
    expected = np.bincount(items, minlength=run.dataset.item_num)
    np.testing.assert_array_equal(counts["item"], expected)


def test_augmented_rows_of_sequences_count_once(tiny):
    split = {
        "train_neg_sample_args": None,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
        "MAX_ITEM_LIST_LENGTH": 6,
    }
    run = prepare(tiny.config("SASRec", kt_enabled=False, hidden_size=8, **split))
    of_file = {user: 0 for user, *_ in tiny.rows}
    for user, *_ in tiny.rows:
        of_file[user] += 1
    counts = interaction_counts(run.dataset)["user"]
    for user, number in of_file.items():
        assert counts[run.dataset.token2id("user_id", user)] == number - 2
    # Whom a history begins with is never a target, and trained all the same.
    firsts = {row[0] for row in run.dataset.inter_feat["item_id_list"].tolist()} - {0}
    assert firsts <= set(RunProfiles(run.config, run.dataset).trained_ids("item").tolist())


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("model", ["BPR", "NeuMF", "LightGCN", "FM"])
def test_only_cold_rows_with_a_profile_are_written(make_dataset, model, saved):
    dataset = make_dataset()
    add_profiles(dataset, without=["u3", "u8", "u20"])
    negatives = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}
    stock = prepare(dataset.config(model, kt_enabled=False, **negatives))
    stock.fit(saved=saved)
    run = prepare(dataset.config(model, **COLD, **negatives))
    run.fit(saved=saved)
    if saved:
        files = (trained.trainer.saved_model_file for trained in (stock, run))
        before, after = (torch.load(f, weights_only=True)["state_dict"] for f in files)
    else:
        before, after = stock.model.state_dict(), run.model.state_dict()
    profiles = load_profiles(run.config, run.dataset, "user")
    counts = counts_by_file(run)
    cold = [int(i) for i in profiles.ids if counts[i] <= 8]
    assert 0 < len(cold) < len(profiles.ids)
    (side,) = run.method("cold_start").sides
    written = {part.name for part in side.tables}
    for name, value in before.items():
        if name not in written:
            assert torch.equal(after[name], value), name
    for table in side.tables:
        differs = (table.rows(after) != table.rows(before)).any(1)
        assert differs.nonzero().flatten().tolist() == cold


def test_rows_follow_the_profiles(make_dataset):
    """Where warm rows are a linear map of the profiles, cold rows are the same map of theirs."""
    dataset = make_dataset(n_users=120, n_items=60, per_user=(2, 20))
    add_profiles(dataset)
    run = prepare(dataset.config("BPR", **COLD))
    profiles = load_profiles(run.config, run.dataset, "user")
    rng = np.random.default_rng(1)
    linear = torch.from_numpy(rng.standard_normal((DIM_TEXT, 8)).astype(np.float32))
    truth = torch.zeros(run.dataset.user_num, 8)
    truth[profiles.ids] = torch.from_numpy(profiles.vectors) @ linear + 3.0
    cold = torch.from_numpy(profiles.ids[counts_by_file(run)[profiles.ids] <= 8])
    given = truth.clone()
    given[cold] = 99.0
    weight = run.model.user_embedding.weight.data
    weight.copy_(given)
    run.prepared(ColdStart).fill_model(run.model)
    torch.testing.assert_close(weight[cold], truth[cold], atol=0.05, rtol=0.0)
    run.config["kt_control"] = "shuffled"
    run.prepared(ColdStart).fill_model(run.model)
    assert (weight[cold] - truth[cold]).abs().max() > 0.5


def test_the_items_of_an_autoencoder_are_columns_rows_and_biases(tiny):
    run = prepare(tiny.config("MultiVAE", kt_entity="item", **COLD, **USERWISE))
    trained = []
    run.fit(callback_fn=lambda *_: trained.append(run.model.encoder[0].weight.detach().clone()))
    (side,) = run.method("cold_start").sides
    assert [(table.name, table.axis) for table in side.tables] == [
        ("encoder.0.weight", 1),
        ("decoder.2.weight", 0),
        ("decoder.2.bias", 0),
    ]
    cold = side.profiles.ids[side.cold].tolist()
    differs = (run.model.encoder[0].weight != trained[-1]).any(0)
    assert differs.nonzero().flatten().tolist() == cold


def test_an_autoencoder_has_no_users_to_fill_and_says_so_before_training(tiny):
    run = prepare(tiny.config("MultiVAE", **COLD, **USERWISE))
    with pytest.raises(LayerError, match="no table with a row for every user"):
        run.fit(callback_fn=lambda *_: pytest.fail("it trained"))


def test_what_a_graph_model_keeps_of_its_embeddings_is_made_anew(tiny):
    run = prepare(tiny.config("LightGCN", **COLD))
    run.fit(saved=True)
    state = torch.load(run.trainer.saved_model_file, weights_only=True)
    assert set(state["other_parameter"].values()) == {None}
    loaded = load_data_and_model(run.trainer.saved_model_file)[1].eval()
    batch = next(iter(run.test_data))[0]
    with torch.no_grad():
        scores = loaded.full_sort_predict(batch).reshape(len(batch), -1)
        users, items = loaded.forward()
    torch.testing.assert_close(scores, users[batch["user_id"]] @ items.T)


def test_the_checkpoint_serves_and_resumes_from_trained_rows(tiny):
    # Validated, and so saved, after the second epoch.
    keys = {**COLD, "epochs": 4, "eval_step": 2}
    whole = prepare(tiny.config("BPR", **{**keys, "kt_cold_start": False}))
    whole.fit(saved=True)
    first = prepare(tiny.config("BPR", **{**keys, "epochs": 2}))
    first.fit(saved=True)
    path = first.trainer.saved_model_file
    state = torch.load(path, weights_only=True)
    served = load_data_and_model(path)[1]
    torch.testing.assert_close(
        served.user_embedding.weight, state["state_dict"]["user_embedding.weight"]
    )
    result = first.trainer.evaluate(first.test_data, load_best_model=True)
    assert np.isfinite(list(result.values())).all()
    second = prepare(tiny.config("BPR", **keys))
    second.trainer.resume_checkpoint(path)
    assert not torch.equal(second.model.user_embedding.weight, served.user_embedding.weight)
    second.fit(saved=True)
    assert same_parameters(second.model, whole.model)  # in memory they are the trained rows


def test_filling_twice_is_filling_once(tiny):
    run = prepare(tiny.config("BPR", **COLD))
    run.fit(saved=True)
    path = run.trainer.saved_model_file
    before = torch.load(path, weights_only=True)
    run.method("cold_start").fill_checkpoint(path)
    after = torch.load(path, weights_only=True)
    assert torch.equal(
        before["state_dict"]["user_embedding.weight"], after["state_dict"]["user_embedding.weight"]
    )
    kept, again = (filled_tables(checkpoint) for checkpoint in (before, after))
    assert torch.equal(kept[0]["rows"], again[0]["rows"])


def test_off_is_stock(tiny):
    run = prepare(tiny.config("BPR", **{**COLD, "kt_enabled": False}))
    run.fit()
    stock = prepare(tiny.config("BPR", kt_enabled=False))
    stock.fit()
    assert same_parameters(run.model, stock.model)


def test_nobody_cold_changes_nothing_and_nobody_warm_is_refused(tiny):
    stock = prepare(tiny.config("BPR", kt_enabled=False))
    stock.fit()
    run = prepare(tiny.config("BPR", **{**COLD, "kt_cold_threshold": 0}))
    run.fit()
    assert same_parameters(run.model, stock.model)
    summary = run.trainer.transfer_summary()
    assert summary["cold_start"][0]["cold"] == 0 and summary["terms"] == []
    run = prepare(tiny.config("BPR", **{**COLD, "kt_cold_threshold": 99}))
    with pytest.raises(ProfileError, match="lower kt_cold_threshold"):
        run.fit()


def test_a_user_without_any_training_interaction(make_dataset):
    """Known to RecBole from the test part only, and yet it gets an embedding."""
    dataset = make_dataset()
    rows = [row for row in dataset.rows if row[0] != "u5"]
    parts = {"train": rows[: len(rows) * 3 // 4], "valid": rows[len(rows) * 3 // 4 :]}
    parts["test"] = [row for row in dataset.rows if row[0] == "u5"]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    for name, part in parts.items():
        lines = [header, *("\t".join(map(str, row)) for row in part)]
        (dataset.folder / f"tiny.{name}.inter").write_text("\n".join(lines) + "\n")
    keys = {**COLD, "benchmark_filename": list(parts)}
    train = prepare(dataset.config("BPR", **{**keys, "kt_enabled": False})).dataset
    histories = training_histories(train).digests()
    write_profiles(
        dataset.folder / "profiles", "user", random_vectors(sorted(histories)), histories
    )
    run = prepare(dataset.config("BPR", **keys))
    run.fit()
    (side,) = run.method("cold_start").sides
    assert run.dataset.token2id("user_id", "u5") in side.profiles.ids[side.cold]
