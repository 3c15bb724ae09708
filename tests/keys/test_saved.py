"""A checkpoint sets what is listed; every other key that anything reads is today's."""

from __future__ import annotations

import pytest

from recbole_llmkt.keys.hyperparameters import properties
from recbole_llmkt.keys.names import known_names
from recbole_llmkt.keys.saved import sort_saved
from recbole_llmkt.keys.table import KEYS

# All that anything reads and a checkpoint may not set: to be looked at when it grows.
TODAYS = {
    *("gpu_id", "use_gpu", "worker", "state", "show_progress", "log_wandb", "wandb_project"),
    *("checkpoint_dir", "config_file", "config_files", "verbose", "kt_preset"),
    *("local_rank", "world_size", "ip", "port", "nproc", "offset", "group_offset"),
    *("pre_model_path", "pretrain_path", "mf_pretrain_path", "mlp_pretrain_path", "warm_up"),
}
# RecBole works these out by itself.
WORKED_OUT = {
    *("MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type", "feature_num", "MASK_INDEX", "MASK_ITEM_SEQ"),
    *("valid_neg_sample_args", "test_neg_sample_args", "POS_ITEMS", "NEG_ITEMS", "CROP_ITEM_SEQ"),
    *("CROP_ITEM_SEQ_LEN", "REORDER_ITEM_SEQ", "INVERSE_ITEM_SEQ"),
}


def test_every_key_that_anything_reads_is_taken_or_todays():
    names_of_datasets = properties("dataset")["kg_url"]
    read = known_names() - WORKED_OUT - names_of_datasets.keys()
    # Hyperparameters are a model's own.
    taken = set().union(
        *(
            sort_saved(dict.fromkeys(read, 1), {"model": model}).taken
            for model in properties("model")
        )
    )
    profiles = {key for key in KEYS if key.startswith("profile_")}
    assert read - taken == (TODAYS | profiles) & read
    assert not taken & (TODAYS | profiles)


@pytest.mark.parametrize("key", ["unheard_of", "tensorboard_dir", "n_layers"])
def test_a_key_that_nothing_of_the_model_reads_is_ignored(key):
    assert sort_saved({"model": "BPR", key: 3}, {}).ignored == {key: 3}


def test_hyperparameters_are_those_of_the_model():
    assert sort_saved({"model": "LightGCN", "n_layers": 3}, {}).taken["n_layers"] == 3


def test_a_class_of_today_reads_plain_keys_of_its_own():
    saved = {
        "margin": 0.3,
        "sizes": [1, {"word": None}],
        "folder": "/etc",
        "module": "os.path",
        "listed": ["../secret"],
        "worker": 3,
        "profile_api_key_env": "SECRET",
    }
    kept = {"margin": 0.3, "sizes": [1, {"word": None}]}
    assert sort_saved(saved, {"model": "mine.M"}).taken == kept
    assert sort_saved(saved, {"kt_loss": "mine.L"}).taken == kept
    assert sort_saved(saved, {"model": "BPR", "kt_loss": "mse"}).taken == {}


def test_files_and_classes_that_the_model_needs_are_named():
    saved = {"model": "NeuMF", "mf_pretrain_path": "a.pth", "mlp_pretrain_path": None}
    sorted_keys = sort_saved({**saved, "kt_loss": "helper.L", "kt_method": "helper.M"}, {})
    assert sorted_keys.files == ["mf_pretrain_path"]
    assert sorted_keys.classes == ["kt_loss", "kt_method"]
