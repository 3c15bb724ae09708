"""Values of RecBole's own keys that it would trip over."""

from __future__ import annotations

import math

import pytest

from recbole_llmkt.config import Config
from recbole_llmkt.keys.hyperparameters import properties
from recbole_llmkt.keys.recbole_table import RECBOLE_KEYS, check_values
from recbole_llmkt.utils.exceptions import ConfigError

INTEGERS = [name for name, key in RECBOLE_KEYS.items() if key.type == "int"]
BOOLEANS = [name for name, key in RECBOLE_KEYS.items() if key.type == "bool"]


def refuse(model="BPR", **values):
    with pytest.raises(ConfigError) as caught:
        Config(model, "ml-100k", config_dict=values, command_line=[])
    message = str(caught.value)
    assert "\n" not in message and next(iter(values)) in message
    assert not message.startswith("RecBole refuses")
    return message


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", [-1, 1.5, "many", 2**70, math.inf, [1], True])
def test_integers(name, value):
    assert "the value must be an integer" in refuse(**{name: value})


@pytest.mark.parametrize("name", ["epochs", "train_batch_size", "eval_batch_size"])
def test_what_must_be_above_0(name):
    assert "of 1 or more" in refuse(**{name: 0})


@pytest.mark.parametrize("name", BOOLEANS)
def test_booleans(name):
    assert "True or False" in refuse(**{name: "perhaps"})


@pytest.mark.parametrize("value", [0, -0.1, math.nan, math.inf, "fast", None, [0.1]])
def test_learning_rates(value):
    assert "a number above 0.0" in refuse(learning_rate=value)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("weight_decay", -1e-5, "of 0.0 or more"),
        ("learner", "adm", "Did you mean 'adam'"),
        ("metrics", ["Recal"], "Did you mean 'recall'"),
        ("metrics", [], "not an empty list"),
        ("metrics", 3, "string"),
        ("topk", "ten", "an integer of 1 or more, or a list"),
        ("topk", [10, 0], "an integer of 1 or more, or a list"),
        ("topk", [], "an integer of 1 or more, or a list"),
        ("topk", -5, "an integer of 1 or more, or a list"),
        ("valid_metric", 3, "string"),
        ("clip_grad_norm", 5, "like {max_norm: 5}"),
        ("clip_grad_norm", {"max_nrm": 5}, "like {max_norm: 5}"),
        ("clip_grad_norm", {"max_norm": -5}, "like {max_norm: 5}"),
        ("train_neg_sample_args", 3, "like {distribution: uniform"),
        ("train_neg_sample_args", {"distribution": "gauss"}, "uniform or popularity"),
        ("train_neg_sample_args", {"sample_num": 1}, "a distribution is missing"),
        ("train_neg_sample_args", {"distribution": "uniform", "sample_num": 0}, "sample_num: 0"),
        ("train_neg_sample_args", {"distribution": "uniform", "dynamic": True}, "candidate_num"),
        ("train_neg_sample_args", {"distribution": "uniform", "number": 1}, "no 'number' in it"),
        ("clip_grad_norm", {"max_norm": 5, "norm_type": 0}, "norm_type above 0"),
        ("clip_grad_norm", {"max_norm": 5, "error_if_nonfinite": "x"}, "like {max_norm: 5}"),
        ("eval_args", None, "a mapping"),
        ("eval_args", "full", "a mapping"),
        ("eval_args", {"spilt": {"RS": [8, 1, 1]}}, "Did you mean 'split'"),
        ("eval_args", {"split": {"RS": [8, 2]}}, "three numbers"),
        ("eval_args", {"split": {"RS": [0, 1, 1]}}, "three numbers"),
        ("eval_args", {"split": {"RS": "8,1,1"}}, "three numbers"),
        ("eval_args", {"split": {"LS": "both"}}, "{LS: valid_and_test}"),
        ("eval_args", {"split": {"KS": [8, 1, 1]}}, "{RS: ...} (by ratio)"),
        ("eval_args", {"split": None}, "one way to split"),
        ("eval_args", {"split": {"RS": [8, 1, 1], "LS": "test_only"}}, "one way to split"),
        ("eval_args", {"group_by": "item"}, "user or none"),
        ("eval_args", {"order": "time"}, "RO (random) or TO (by time)"),
        ("eval_args", {"mode": "unicorn"}, "full, labeled, uniN or popN"),
        ("eval_args", {"mode": "uni0"}, "full, labeled, uniN or popN"),
        ("eval_args", {"mode": {"validation": "full"}}, "full, labeled, uniN or popN"),
        ("load_col", "inter", "a mapping"),
        ("load_col", {"inter": None}, "a list of columns"),
        ("load_col", {"inter": [1]}, "a list of columns"),
        ("load_col", {}, "it needs the columns of the .inter file"),
        ("load_col", {"inter": [], "item": "*"}, "it needs the columns of the .inter file"),
        ("val_interval", {"rating": "3 to 5"}, "an interval"),
        ("val_interval", {"rating": 3}, "an interval"),
        ("val_interval", "[3,inf)", "a mapping"),
        ("user_inter_num_interval", "5", "an interval"),
        ("item_inter_num_interval", "[a,b]", "an interval"),
        ("item_inter_num_interval", "[9,5]", "an interval"),
        ("threshold", {"rating": "x"}, "like {rating: 4}"),
        ("threshold", {"rating": 4, "age": 3}, "like {rating: 4}"),
        ("threshold", 4, "like {rating: 4}"),
        ("gpu_id", "cuda:0", "GPU numbers"),
        ("gpu_id", None, "GPU numbers"),
        ("encoding", "utf-88", "an encoding"),
        ("encoding", 8, "an encoding"),
        ("data_path", 3, "the path of a folder"),
        ("checkpoint_dir", "", "the path of a folder"),
        ("state", "LOUD", "one of debug, info"),
        ("checkpoint_dir", "saved/" + "x" * 256, "at most 255 bytes"),
        ("transform", "x", "one of mask_itemseq"),
        ("transform", "user_defined", "one of mask_itemseq"),
        ("seq_len", {"title": 0}, "'title: 0': the value must be an integer of 1 or more"),
        ("seq_len", {"title": "10"}, "an integer of 1 or more"),
        ("preload_weight", {"item_id": ["a"]}, "the name of a column"),
        ("discretization", {"age": {"method": "ED"}}, "{method: ED, bucket: 5}"),
        ("discretization", {"age": {"method": "ED", "bucket": 0}}, "bucket of 1 or more"),
        ("discretization", {"age": "ED"}, "or {method: LD}"),
        ("POSITION_FIELD", 5, "a non-empty string"),
        ("ENTITY_ID_FIELD", ["entity_id"], "a non-empty string"),
        ("valid_metric_bigger", "x", "True or False"),
        ("use_gpu", {"x": 1}, "'use_gpu: {'x': 1}': the value must be True or False"),
        ("MODEL_TYPE", "general", "follows from the model"),
        ("eval_type", ["x"], "follows from the model"),
        ("rm_dup_inter", "x", "one of first, last"),
        ("benchmark_filename", ["train", "test"], "a list of three names"),
        ("benchmark_filename", "train", "a list"),
        ("benchmark_filename", ["../a", "b", "c"], "without folders"),
        ("additional_feat_suffix", ["../a"], "without folders"),
        ("additional_feat_suffix", "a\\b", "without folders"),
        ("additional_feat_suffix", "é" * 60, "up to 100 bytes"),
        ("load_col", {"../a": ["user_id"]}, "'../a': the value must be parts of"),
        ("worker", 100_000, "an integer from 0 to 256"),
        ("tail_ratio", "x", "a number above 0.0"),
        ("tail_ratio", -3, "a number above 0.0"),
        ("field_separator", "", "string"),
        ("normalize_field", "rating", "a list"),
        ("embedding_size", 0, "an integer of 1 or more"),
        ("embedding_size", 64.5, "an integer of 1 or more"),
    ],
)
def test_other_values(key, value, words):
    assert words in refuse(**{key: value})


@pytest.mark.parametrize(
    ("model", "key", "value", "words"),
    [
        ("LightGCN", "n_layers", -1, "of 0 or more"),
        ("LightGCN", "reg_weight", -1, "of 0.0 or more"),
        ("NeuMF", "mlp_hidden_size", 32, "a list"),
        ("NeuMF", "mlp_hidden_size", [32, 0], "of 1 or more"),
        ("NeuMF", "dropout_prob", 1.5, "from 0.0 to 1.0"),
        ("SGL", "ssl_tau", 0, "above 0.0"),
        ("BERT4Rec", "n_heads", 0, "of 1 or more"),
        ("SimpleX", "margin", "wide", "a number"),
        ("NeuMF", "use_pretrain", "no", "True or False"),
        ("SimpleX", "gamma", math.nan, "a number"),
    ],
)
def test_hyperparameters(model, key, value, words):
    assert words in refuse(model, **{key: value})


def test_the_defaults_of_recboles_models_pass():
    for model, defaults in properties("model").items():
        check_values(defaults, model)


@pytest.mark.parametrize(
    "values",
    [
        {"gpu_id": "0,1"},
        {"gpu_id": 3},
        {"gpu_id": -1},
        {"user_inter_num_interval": "[0,2];(5,10]"},
        {"val_interval": {"rating": "[3,inf)"}},
        {"clip_grad_norm": {"max_norm": 5, "norm_type": 2}},
        {"eval_step": 0},  # RecBole's way to train without validation
        {"learner": "AdamW"},
        {"metrics": "ndcg", "valid_metric": "NDCG@10"},
        {"topk": 5, "valid_metric": "MRR@5"},
        {"encoding": "latin-1"},
    ],
)
def test_what_recbole_can_use_is_let_through(values):
    Config("BPR", "ml-100k", config_dict=values, command_line=[])
