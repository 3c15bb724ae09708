"""Embedding tables that start from the profiles' targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_llmkt.profiles.loading import load_profiles
from recbole_llmkt.quick_start import load_data_and_model
from recbole_llmkt.transfer.inspection.tables import TableFinder, find_tables
from recbole_llmkt.transfer.methods.initialize import start_tables
from recbole_llmkt.transfer.targets.build import build_targets
from recbole_llmkt.utils.exceptions import ConfigError, LayerError
from recbole_llmkt.utils.randomness import get_random_state
from tests.helpers import prepare, same_parameters

USERWISE = {"train_neg_sample_args": None}
LABELLED = {
    "threshold": {"rating": 3},
    "train_neg_sample_args": None,
    "eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "mode": "labeled"},
    "metrics": ["AUC"],
    "valid_metric": "AUC",
    "profile_allow_leak": True,
}
SEQUENTIAL = {
    "train_neg_sample_args": None,
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
    "MAX_ITEM_LIST_LENGTH": 6,
    "hidden_size": 8,
    "inner_size": 8,
    "profile_allow_leak": True,
}
FFM_TABLES = [f"ffm.token_embeddings.{field}.weight" for field in range(2)]
# model: settings, tables of users, tables of items (a colon marks columns, a plus an offset)
MODELS = {
    "BPR": ({}, ["user_embedding.weight"], ["item_embedding.weight"]),
    "NeuMF": (
        {},
        ["user_mf_embedding.weight", "user_mlp_embedding.weight"],
        ["item_mf_embedding.weight", "item_mlp_embedding.weight"],
    ),
    "NNCF": (
        {},
        ["user_embedding.weight", "item_neigh_embedding.weight"],
        ["item_embedding.weight", "user_neigh_embedding.weight"],
    ),
    "LightGCN": ({}, ["user_embedding.weight"], ["item_embedding.weight"]),
    "SimpleX": ({}, ["user_emb.weight"], ["item_emb.weight"]),
    "ENMF": (USERWISE, ["user_embedding.weight"], ["item_embedding.weight"]),
    "DMF": ({}, [":item_linear.weight"], [":user_linear.weight"]),
    "MultiVAE": (
        {**USERWISE, "mlp_hidden_size": [16]},
        [],
        [":encoder.0.weight", "decoder.2.weight", "decoder.2.bias"],
    ),
    "CDAE": (
        USERWISE,
        ["h_user.weight"],
        [":h_item.weight", "out_layer.weight", "out_layer.bias"],
    ),
    "FM": (
        LABELLED,
        [
            "token_embedding_table.embedding.weight",
            "first_order_linear.token_embedding_table.embedding.weight",
        ],
        [
            "+token_embedding_table.embedding.weight",
            "+first_order_linear.token_embedding_table.embedding.weight",
        ],
    ),
    "DSSM": (
        LABELLED,
        ["token_embedding_table.embedding.weight"],
        ["+token_embedding_table.embedding.weight"],
    ),
    "FFM": (
        LABELLED,
        ["first_order_linear.token_embedding_table.embedding.weight", *FFM_TABLES],
        [
            "+first_order_linear.token_embedding_table.embedding.weight",
            *(f"+{name}" for name in FFM_TABLES),
        ],
    ),
    "SASRec": (SEQUENTIAL, [], ["item_embedding.weight"]),
    "BERT4Rec": (SEQUENTIAL, [], ["item_embedding.weight"]),
    "HGN": (
        SEQUENTIAL,
        ["user_embedding.weight"],
        ["item_embedding.weight", "item_embedding_for_prediction.weight"],
    ),
}


def parts(model, train_data, tables):
    """Write tables as in ``MODELS``."""
    n_users = train_data._dataset.user_num
    marks = {(0, 0): "", (1, 0): ":", (0, n_users): "+"}
    return [marks[table.axis, table.offset] + table.name for table in tables]


@pytest.mark.parametrize("model", MODELS)
def test_finds_every_table_and_leaves_model_and_random_streams_alone(tiny, model):
    settings, users, items = MODELS[model]
    run = prepare(tiny.config(model, kt_enabled=False, **settings))
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    streams = get_random_state()
    tables = find_tables(TableFinder(run.model, run.train_data), ("user", "item"), "auto")
    assert torch.equal(streams["torch"], get_random_state()["torch"])
    after = run.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert parts(run.model, run.train_data, tables["user"]) == users
    assert parts(run.model, run.train_data, tables["item"]) == items


@pytest.mark.parametrize("model", ["BPR", "NeuMF", "MultiVAE", "FM", "FFM", "SASRec", "DMF"])
def test_rows_are_the_targets_by_token_scaled_to_the_models_own_start(tiny, model):
    """Contract: row i is the target of the user or item whose token has the id i."""
    settings, *_ = MODELS[model]
    keys = {"kt_entity": "both", "kt_init": "targets", "kt_init_scale": 0.5, **settings}
    run = prepare(tiny.config(model, **keys))
    fresh = prepare(tiny.config(model, kt_enabled=False, **settings)).model.state_dict()
    starts = start_tables(run.context)
    assert starts
    state = run.model.state_dict()
    written = dict.fromkeys(start.table.name for start in starts)
    assert all(torch.equal(state[name], fresh[name]) for name in fresh if name not in written)
    for start in starts:
        rows, own = start.table.rows(state), start.table.rows(fresh)
        profiles = load_profiles(run.config, run.dataset, start.table.entity)
        field = run.dataset.uid_field if start.table.entity == "user" else run.dataset.iid_field
        tokens = [str(run.dataset.field2id_token[field][i]) for i in profiles.ids]
        # Vectors by token, straight from the store's own order.
        assert dict(zip(tokens, profiles.ids)) == {
            token: run.dataset.field2token_id[field][token] for token in tokens
        }
        trained = np.unique(np.asarray(run.dataset.inter_feat[field]))
        targets = build_targets(profiles, start.width, "pca", "none", run.config["seed"], trained)
        expected = targets.values[targets.mask]
        got = rows[profiles.ids, : start.width]
        size = (own[1:] ** 2).mean().sqrt() * 0.5
        torch.testing.assert_close(got, expected * (size / (expected**2).mean().sqrt()))
        assert torch.equal(rows[0], own[0])
        assert torch.equal(rows[profiles.ids, start.width :], own[profiles.ids, start.width :])


def test_entities_without_a_profile_keep_their_rows(make_dataset):
    from tests.helpers import add_profiles

    dataset = make_dataset()
    add_profiles(dataset, without=["u3", "u8"])
    run = prepare(dataset.config("BPR", kt_init="targets"))
    own = run.model.user_embedding.weight.detach().clone()
    (start,) = start_tables(run.context)
    ids = [run.dataset.token2id("user_id", token) for token in ("u3", "u8")]
    changed = (run.model.user_embedding.weight != own).any(1).nonzero().flatten().tolist()
    assert changed == [i for i in range(1, run.dataset.user_num) if i not in ids]
    assert start.rows == len(changed)


def test_a_table_wider_than_pca_can_fill_keeps_its_other_columns(tiny):
    run = prepare(tiny.config("BPR", kt_init="targets", embedding_size=64))
    own = run.model.user_embedding.weight.detach().clone()
    (start,) = start_tables(run.context)
    weight = run.model.user_embedding.weight
    assert start.width == 24 and start.of_width == 64  # the embeddings are 24 wide
    assert torch.equal(weight[:, 24:], own[:, 24:])
    assert (weight[1:, :24] != own[1:, :24]).all()


@pytest.mark.parametrize("control", ["shuffled", "random"])
def test_controls_reach_the_start(tiny, control):
    tables = []
    for arm in ("none", control):
        run = prepare(tiny.config("BPR", kt_init="targets", kt_control=arm))
        start_tables(run.context)
        tables.append(run.model.user_embedding.weight.detach()[1:])
    true, broken = tables
    assert not (true == broken).all(1).any()
    if control == "shuffled":
        torch.testing.assert_close(true.sum(0), broken.sum(0))


def test_works_alone_and_draws_nothing(tiny):
    """Weight 0: no task and no loss, but the start; the random streams are where they were."""
    stock = prepare(tiny.config("BPR", kt_enabled=False))
    stock.fit()
    after = get_random_state()
    run = prepare(tiny.config("BPR", kt_init="targets", kt_weight=0, kt_entity="both"))
    run.fit()
    assert torch.equal(get_random_state()["torch"], after["torch"])
    assert torch.equal(get_random_state()["numpy"][1], after["numpy"][1])
    assert run.method("loss") is None
    assert not same_parameters(run.model, stock.model)
    summary = run.trainer.transfer_summary()
    assert [start["entity"] for start in summary["init"]] == ["user", "item"]
    assert summary["terms"] == [] and summary["leaks"] == 0


@pytest.mark.parametrize("keys", [{"kt_enabled": False, "kt_init": "targets"}, {"kt_weight": 0}])
def test_off_is_stock(tiny, keys):
    run = prepare(tiny.config("BPR", **keys))
    run.fit()
    stock = prepare(tiny.config("BPR", kt_enabled=False))
    stock.fit()
    assert same_parameters(run.model, stock.model)
    assert run.trainer.transfer_summary() is None


def test_with_a_transfer_loss_too(tiny):
    run = prepare(tiny.config("NeuMF", kt_init="targets"))
    run.fit()
    summary = run.trainer.transfer_summary()
    assert len(summary["terms"]) == 1 and len(summary["init"]) == 2


def test_resuming_does_not_start_over_and_loading_needs_no_profiles(tiny):
    # Validated, and so saved, after the second epoch.
    keys = {"kt_init": "targets", "kt_weight": 0, "epochs": 4, "eval_step": 2}
    whole = prepare(tiny.config("BPR", **keys))
    whole.fit(saved=True)
    first = prepare(tiny.config("BPR", **{**keys, "epochs": 2}))
    first.fit(saved=True)
    state = torch.load(first.trainer.saved_model_file, weights_only=True)
    second = prepare(tiny.config("BPR", **keys))
    second.trainer.resume_checkpoint(first.trainer.saved_model_file)
    second.fit(saved=True)
    assert same_parameters(second.model, whole.model)
    assert second.method("init").starts == first.method("init").starts
    (tiny.folder / "profiles" / "user.jsonl").unlink()
    model = load_data_and_model(first.trainer.saved_model_file)[1]
    assert torch.equal(model.user_embedding.weight, state["state_dict"]["user_embedding.weight"])


# ---- which tables ------------------------------------------------------------------------------


@pytest.fixture
def square(make_dataset):
    """As many users as items, so that sizes tell nothing."""
    return make_dataset(n_users=40, n_items=40)


@pytest.mark.parametrize("model", ["BPR", "NeuMF", "LightGCN", "MultiVAE", "FM", "DMF"])
def test_as_many_users_as_items(square, model):
    """Looked-up ids, histories and scores tell them apart."""
    settings, users, items = MODELS[model]
    run = prepare(square.config(model, kt_enabled=False, **settings))
    assert run.dataset.user_num == run.dataset.item_num
    tables = find_tables(TableFinder(run.model, run.train_data), ("user", "item"), "auto")
    assert parts(run.model, run.train_data, tables["user"]) == users
    assert parts(run.model, run.train_data, tables["item"]) == items


def test_a_hidden_layer_as_wide_as_there_are_items_is_no_table(tiny):
    settings, _, items = MODELS["MultiVAE"]
    n_items = prepare(tiny.config(kt_enabled=False)).dataset.item_num
    config = tiny.config("MultiVAE", kt_enabled=False, **{**settings, "mlp_hidden_size": [n_items]})
    run = prepare(config)
    tables = find_tables(TableFinder(run.model, run.train_data), ("item",), "auto")
    assert parts(run.model, run.train_data, tables["item"]) == items


def test_what_cannot_be_told_apart_is_refused_with_the_list_and_can_be_named(square):
    run = prepare(square.config("NNCF", kt_enabled=False))
    with pytest.raises(LayerError) as caught:
        find_tables(TableFinder(run.model, run.train_data), ("user", "item"), "auto")
    for words in ("user_neigh_embedding.weight", "item_neigh_embedding.weight", "'item:"):
        assert words in str(caught.value)
    named = ["user_embedding*", "item:user_neigh_embedding.weight"]
    tables = find_tables(TableFinder(run.model, run.train_data), ("user", "item"), named)
    assert [table.name for table in tables["user"]] == ["user_embedding.weight"]
    assert [table.name for table in tables["item"]] == ["user_neigh_embedding.weight"]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("user_embeding.weight", ["matches no table", "user_embedding.weight[0..30]"]),
        ("item:user_embedding.weight", ["(31, 8)", "41 items", "no axis"]),
        ("shop:user_embedding.weight", ["user: or item:"]),
    ],
)
def test_a_wrong_name_is_one_clear_error(tiny, pattern, words):
    run = prepare(tiny.config("BPR", kt_init="targets", kt_init_tables=pattern))
    with pytest.raises(LayerError) as caught:
        run.fit()
    assert all(word in str(caught.value) for word in words), caught.value


def test_no_table_of_users_is_refused_alone_and_left_out_beside_items(tiny):
    config = {"kt_init": "targets", "kt_weight": 0, **USERWISE}
    with pytest.raises(LayerError, match="no table with a row for every user"):
        prepare(tiny.config("MultiVAE", **config)).fit()
    run = prepare(tiny.config("MultiVAE", **config, kt_entity="both"))
    run.fit()
    assert {start["entity"] for start in run.method("init").starts} == {"item"}


def test_weights_of_an_earlier_stage_are_not_written_over(tiny):
    run = prepare(tiny.config("NeuMF", kt_init="targets"))
    run.config["use_pretrain"] = True
    with pytest.raises(
        ConfigError, match=r"\(use_pretrain: True\)\. Set kt_init: none for this st"
    ):
        run.fit()


def test_items_come_first_among_the_entities_of_a_knowledge_graph(tiny):
    folder = tiny.folder
    items = sorted({row[1] for row in tiny.rows})
    link = [f"{item}\tm.{number}" for number, item in enumerate(items)]
    facts = [f"m.{number}\tgenre\tg.{number % 3}" for number in range(len(items))]
    (folder / "tiny.link").write_text("\n".join(["item_id:token\tentity_id:token", *link]) + "\n")
    header = "head_id:token\trelation_id:token\ttail_id:token"
    (folder / "tiny.kg").write_text("\n".join([header, *facts]) + "\n")
    columns = {
        "inter": ["user_id", "item_id", "rating", "timestamp"],
        "kg": ["head_id", "relation_id", "tail_id"],
        "link": ["item_id", "entity_id"],
    }
    run = prepare(tiny.config("CKE", kt_enabled=False, load_col=columns, kg_embedding_size=8))
    tables = find_tables(TableFinder(run.model, run.train_data), ("user", "item"), "auto")
    assert [table.name for table in tables["user"]] == ["user_embedding.weight"]
    assert [table.name for table in tables["item"]] == [
        "item_embedding.weight",
        "entity_embedding.weight",
    ]
    assert {(table.offset, table.n) for table in tables["item"]} == {(0, run.dataset.item_num)}
