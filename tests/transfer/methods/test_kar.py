"""KAR: every context-aware model trains with it, and its gain comes from the profiles."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from recbole.utils import init_seed

from recbole_llmkt import export_stock_checkpoint, load_data_and_model, run_recbole_llmkt
from recbole_llmkt.datasets.history import training_histories
from recbole_llmkt.training.factory import build_model, get_trainer
from recbole_llmkt.utils.exceptions import ConfigError, ProfileError
from tests.helpers import (
    DIM_TEXT,
    TinyDataset,
    add_profiles,
    prepare,
    same_parameters,
    write_profiles,
)

SPLIT = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "group_by": "user"}
CLICKS = {
    "threshold": {"rating": 3},
    "eval_args": {**SPLIT, "mode": "labeled"},
    "train_neg_sample_args": None,
    "metrics": ["AUC", "LogLoss"],
    "valid_metric": "AUC",
    "learning_rate": 0.01,
    "state": "ERROR",
}
KAR = {**CLICKS, "kt_method": "kar", "kt_kar_hidden": 16}
MODELS = [
    *("AFM", "AutoInt", "DCN", "DCNV2", "DSSM", "DeepFM", "EulerNet", "FM", "FNN", "FiGNN"),
    *("FwFM", "KD_DAGFM", "NFM", "PNN", "WideDeep", "xDeepFM"),
]
QUICK = ("DeepFM",)


def slow_but(*quick: str) -> list:
    """Return all models, those that are not named marked as slow."""
    return [
        model if model in quick else pytest.param(model, marks=pytest.mark.slow) for model in MODELS
    ]


def prepare_kar(dataset: TinyDataset, model: str, **keys):
    """Make data, augmented model and trainer."""
    return prepare(dataset.config(model, **{**KAR, **keys}))


def train(dataset: TinyDataset, model: str = "DeepFM", saved: bool = False, **keys):
    settings = dataset.settings(**{**KAR, **keys})
    return run_recbole_llmkt(model, dataset.name, config_dict=settings, saved=saved)


def batch_of(run):
    return next(iter(run.train_data))


# ---- every model ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_it_trains(tiny, model):
    run = prepare_kar(tiny, model, epochs=6)
    batch = batch_of(run)
    run.model.calculate_loss(batch).backward()
    for name, parameter in run.model.knowledge_fields.named_parameters():
        if "missing" not in name:  # all have a profile
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    run.model.zero_grad()
    run.fit()
    losses = list(run.trainer.train_loss_dict.values())
    assert losses[-1] < losses[0]
    scores = run.model.eval().predict(batch)
    assert scores.shape == (len(batch),) or scores.shape == (len(batch), 1)
    assert torch.isfinite(scores).all() and scores.std() > 0


@pytest.mark.parametrize("model", slow_but("DeepFM", "DSSM", "FwFM", "KD_DAGFM"))
def test_a_checkpoint_needs_no_profiles(tiny, model):
    result = train(tiny, model, saved=True, epochs=2)
    shutil.rmtree(tiny.folder / "profiles")
    config, loaded, _, train_data, _, test_data = load_data_and_model(result["checkpoint"])
    assert type(loaded).__name__ == f"KAR{model}" and config["kt_method"] == "kar"
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, loaded)
    trainer.eval_collector.data_collect(train_data)
    assert trainer.evaluate(test_data, load_best_model=False) == result["test_result"]


@pytest.mark.parametrize("model", ["DeepFM", "DSSM", "NFM"])
def test_it_ranks_all_items(tiny, model):
    result = train(
        tiny,
        model,
        eval_args={**SPLIT, "mode": "full"},
        metrics=["Recall", "NDCG"],
        valid_metric="NDCG@5",
    )
    assert 0.0 < result["test_result"]["recall@5"] <= 1.0


# ---- its gain comes from the profiles ------------------------------------------------------------


@pytest.fixture
def planted(make_dataset) -> TinyDataset:
    """Return data whose clicks depend on which of four groups users and items are of.

    The profile embeddings tell the group; five training interactions hardly do.
    """
    dataset = make_dataset(n_users=240, n_items=160, per_user=(8, 9))
    rng = np.random.default_rng(11)
    likes = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1]])
    group = {f"{side}{i}": int(rng.integers(4)) for side in "ui" for i in range(240)}

    def clicked(user: str, item: str) -> bool:
        return bool(likes[group[user], group[item]]) != (rng.random() < 0.05)

    dataset.rows = [
        (user, item, 5 if clicked(user, item) else 1, time) for user, item, _, time in dataset.rows
    ]
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    lines += ["\t".join(map(str, row)) for row in dataset.rows]
    (dataset.folder / "tiny.inter").write_text("\n".join(lines) + "\n")

    centres = rng.standard_normal((8, DIM_TEXT))

    def vectors(tokens: Sequence[str]) -> dict[str, np.ndarray]:
        return {
            token: centres[group[token] + 4 * token.startswith("i")]
            + 0.3 * rng.standard_normal(DIM_TEXT)
            for token in tokens
        }

    split = prepare(dataset.config("BPR", kt_enabled=False, eval_args=SPLIT)).dataset
    histories = training_histories(split).digests()
    items = [str(token) for token in split.field2id_token["item_id"][1:]]
    write_profiles(dataset.folder / "profiles", "user", vectors(list(histories)), histories)
    write_profiles(dataset.folder / "profiles", "item", vectors(items), {})
    return dataset


@pytest.mark.parametrize("model", slow_but(*QUICK))
def test_the_gain_goes_with_the_profiles(planted, model):
    settings = {"epochs": 8, "eval_step": 4, "train_batch_size": 128}
    if model in QUICK:
        settings.update(epochs=5, eval_step=5, learning_rate=0.02)
    if model == "EulerNet":  # its own sizes are too large for so few rows, whatever it learns from
        settings.update(order_list=[8], drop_ex=0.0, drop_im=0.0)

    def auc(**keys) -> float:
        return train(planted, model, saved=True, **settings, **keys)["test_result"]["auc"]

    base, kar = auc(kt_enabled=False), auc()
    zero, shuffled = auc(kt_control="zero"), auc(kt_control="shuffled")
    assert kar > 0.85 and max(base, zero, shuffled) < 0.7, (base, kar, zero, shuffled)


# ---- nothing else changes ------------------------------------------------------------------------


def test_off_it_is_the_stock_model(tiny):
    config = tiny.config("DeepFM", kt_method="kar", **CLICKS, kt_enabled=False)
    run = prepare(config)
    assert type(run.model) is config.model_class
    init_seed(config["seed"], config["reproducibility"])
    assert same_parameters(run.model, config.model_class(config, run.dataset))
    stock = train(tiny, kt_method="transfer", kt_weight=0)
    assert train(tiny, kt_enabled=False)["test_result"] == stock["test_result"]


@pytest.mark.parametrize("model", ["FM", "AFM", "NFM"])
def test_where_no_width_depends_on_the_fields_the_stock_weights_are_kept(tiny, model):
    run = prepare_kar(tiny, model)
    torch.manual_seed(5)
    weights = build_model(run.config, run.dataset).state_dict()
    after = torch.get_rng_state()
    torch.manual_seed(5)
    stock = run.config.model_class(run.config, run.dataset).state_dict()
    assert torch.equal(after, torch.get_rng_state())
    assert all(torch.equal(weights[name], value) for name, value in stock.items())
    added = set(weights) - set(stock)
    assert added and all(name.startswith("knowledge_fields.") for name in added)


def test_resumed_it_equals_an_uninterrupted_run(tiny):
    keys = {"epochs": 4, "kt_kar_dropout": 0.3}
    whole = prepare_kar(tiny, "DeepFM", **keys)

    def keep(epoch, score):
        whole.trainer._save_checkpoint(epoch, verbose=False, saved_model_file=f"{epoch}.pth")

    result = whole.fit(callback_fn=keep)
    run = prepare_kar(tiny, "DeepFM", **keys)
    run.trainer.resume_checkpoint("1.pth")
    assert run.fit()[0] == result[0]
    assert same_parameters(whole.model, run.model)


def test_the_same_run_twice_gives_the_same_numbers(tiny):
    first, second = (train(tiny, kt_kar_dropout=0.2) for _ in range(2))
    assert first["test_result"] == second["test_result"]
    assert first["best_valid_result"] == second["best_valid_result"]


# ---- where the vectors go ------------------------------------------------------------------------


def test_two_more_vectors_behind_the_tokens(tiny):
    run = prepare_kar(tiny, "DeepFM")
    batch = batch_of(run)
    tokens, numbers = run.model.embed_input_fields(batch)
    user, item = run.model.knowledge_fields(batch["user_id"], batch["item_id"])
    assert run.model.num_feature_field == 4 and tokens.shape == (len(batch), 4, 8)
    assert torch.equal(tokens[:, 2:], torch.cat([user, item], dim=1)) and numbers is None
    for row in (0, 7):
        alone = run.model.knowledge_fields(batch["user_id"][row:][:1], batch["item_id"][row:][:1])
        assert torch.allclose(user[row], alone[0][0]) and torch.allclose(item[row], alone[1][0])


def test_each_tower_gets_its_own_profile(tiny):
    run = prepare_kar(tiny, "DSSM")
    batch = batch_of(run)
    user, item = run.model.knowledge_fields(batch["user_id"], batch["item_id"])
    users, _, items, _ = run.model.double_tower_embed_input_fields(batch)
    assert torch.equal(users[:, 1:], user) and torch.equal(items[:, 1:], item)


def test_fwfm_weighs_them_as_fields_of_their_own(tiny):
    run = prepare_kar(tiny, "FwFM", fields={0: ["user_id"], 1: ["item_id"]})
    assert run.model.feature2field == {0: 0, 1: 1, 2: 2, 3: 3}
    assert run.model.weight.shape == (4, 4, 1)


def test_without_a_profile_a_learned_vector_takes_the_place(make_dataset):
    dataset = make_dataset()
    add_profiles(dataset, without=["u3", "i5"])
    run = prepare_kar(dataset, "DeepFM")
    fields = run.model.knowledge_fields
    users, items = run.dataset.field2token_id["user_id"], run.dataset.field2token_id["item_id"]
    ids = torch.tensor([users["u3"], users["u4"]]), torch.tensor([items["i4"], items["i5"]])
    user, item = fields(*ids)
    assert torch.equal(user[0, 0], fields.missing["user"]) and user[1].abs().sum() > 0
    assert torch.equal(item[1, 0], fields.missing["item"]) and item[0].abs().sum() > 0
    before = fields.missing["user"].clone()
    run.fit()
    assert not torch.equal(before, fields.missing["user"])
    assert run.model.knowledge[0]["coverage"] == pytest.approx(29 / 30)


def test_controls_break_the_profile_embeddings(tiny):
    tables = {
        name: prepare_kar(tiny, "FM", kt_control=name).model.knowledge_fields.user_table[1:]
        for name in ("none", "shuffled", "random", "zero")
    }
    true = tables["none"]
    assert torch.allclose(true.pow(2).mean(dim=1), torch.ones(30))
    assert not tables["zero"].any()
    assert sorted(true.tolist()) == sorted(tables["shuffled"].tolist())
    assert not (true == tables["shuffled"]).all(dim=1).any()
    assert not (true.unsqueeze(0) == tables["random"].unsqueeze(1)).all(dim=-1).any()


# ---- results and refusals ------------------------------------------------------------------------


def test_the_result_says_so(tiny, caplog):
    with caplog.at_level("INFO", logger="recbole_llmkt"):
        transfer = train(tiny)["transfer"]
    assert transfer["method"] == "kar" and transfer["leaks"] == 0
    assert [term["entity"] for term in transfer["terms"]] == ["user", "item"]
    assert [term["profiles"] for term in transfer["terms"]] == [30, 40]
    assert all(term["coverage"] == 1.0 for term in transfer["terms"])
    json.dumps(transfer)
    assert "no transfer loss" in caplog.text


@pytest.mark.parametrize(
    ("model", "keys", "words"),
    [
        ("BPR", {}, ["BPR", "no input fields", "DeepFM"]),
        ("DIN", {}, ["DIN", "no input fields"]),
        ("LR", {}, ["LR", "one list of vectors"]),
        ("FFM", {}, ["FFM", "one list of vectors"]),
        ("KD_DAGFM", {"phase": "distillation", "warm_up": "x"}, ["phase: teacher_training"]),
        ("DeepFM", {"kt_control": "zero", "kt_method": "transfer"}, ["kt_control: zero"]),
        ("DeepFM", {"kt_kar_hidden": 0}, ["kt_kar_hidden", "1 or more"]),
        ("DeepFM", {"kt_kar_experts": 3}, ["Did you mean 'kt_kar_own_experts'"]),
    ],
)
def test_what_cannot_be_augmented_is_refused(tiny, model, keys, words):
    general = {} if model != "BPR" else {"eval_args": {**SPLIT, "mode": "full"}, "metrics": ["MRR"]}
    if general:
        general = {**general, "valid_metric": "MRR@5", "train_neg_sample_args": NEGATIVES}
    with pytest.raises(ConfigError) as caught:
        train(tiny, model, **{**general, **keys})
    assert all(word in str(caught.value) for word in words), caught.value


NEGATIVES = {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False}


def test_embeddings_of_two_widths(tiny):
    split = prepare(tiny.config("BPR", kt_enabled=False)).dataset
    wide = {str(token): np.ones(9) for token in split.field2id_token["item_id"][1:]}
    shutil.rmtree(tiny.folder / "profiles" / "embeddings", ignore_errors=True)
    users = {token: np.ones(DIM_TEXT) for token in split.field2id_token["user_id"][1:]}
    histories = training_histories(split).digests()
    write_profiles(tiny.folder / "profiles", "user", users, histories)
    write_profiles(tiny.folder / "profiles", "item", wide, {})
    with pytest.raises(ProfileError, match="users' are 24 wide and items' 9"):
        train(tiny)


def test_stock_recbole_cannot_load_it(tiny):
    result = train(tiny, saved=True)
    with pytest.raises(ConfigError, match=r"DeepFM with kt_method: kar.*kt_method: transfer"):
        export_stock_checkpoint(result["checkpoint"], "stock.pth")


def test_a_checkpoint_whose_data_changed(tiny):
    result = train(tiny, saved=True)
    with (tiny.folder / "tiny.inter").open("a") as file:
        file.write("newcomer\ti1\t3\t5\n")
    model = load_data_and_model(result["checkpoint"])[1]
    assert model.knowledge_fields.user_table.shape[0] == 31  # the newcomer is left out
