"""Settings that do not go together stop a run in one line, before anything is written."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
from recbole.model.general_recommender import BPR
from recbole.utils import InputType

from recbole_llmkt.experiment.runs.compare import compare
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.tuning.tune import Tuning, tune
from recbole_llmkt.keys import combinations
from recbole_llmkt.keys.combinations import CONFIG_CHECKS, RUN_CHECKS, check_run, parts_of
from recbole_llmkt.quick_start import train
from recbole_llmkt.utils.exceptions import ConfigError, LLMKTError

SPLIT = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "group_by": "user", "mode": "full"}


class SparseBPR(BPR):
    """An own model, whose tables may have sparse gradients."""


def leave_nothing():
    """Take away what making the dataset's profiles left in this test's folder."""
    for path in Path.cwd().iterdir():
        shutil.rmtree(path)


def eval_args(**changes):
    return {**SPLIT, **changes}


CASES = [
    ("BPR", {"valid_metric": "NDCG"}, "valid_metric: NDCG is not among.*Did you mean 'NDCG@5'"),
    ("BPR", {"valid_metric": "MAP@12"}, "choose one of Recall@5, NDCG@5"),
    ("BPR", {"valid_metric": "NDCG@10"}, "choose one of Recall@5, NDCG@5"),
    ("BPR", {"topk": [10], "valid_metric": "NDCG@5"}, "choose one of Recall@10, NDCG@10"),
    ("BPR", {"metrics": ["AUC", "NDCG"]}, "AUC and NDCG cannot be combined in one run"),
    ("BPR", {"metrics": ["AUC"]}, "AUC needs labels.*mode: full"),
    ("BPR", {"eval_args": eval_args(mode="labeled")}, "Recall ranks items.*mode: labeled"),
    ("BPR", {"eval_args": eval_args(mode={"test": "labeled"})}, "Recall ranks items"),
    ("BPR", {"learner": "sparse_adam"}, "sparse_adam.*use learner: adam"),
    ("BPR", {"train_neg_sample_args": None}, "BPR learns from pairs.*distribution: uniform"),
    ("BPR", {"unload_col": {"inter": ["rating"]}}, "load_col and unload_col both"),
    ("BPR", {"normalize_all": True, "normalize_field": ["rating"]}, "normalize_all and"),
    ("BPR", {"USER_ID_FIELD": None}, "USER_ID_FIELD"),
    ("BPR", {"USER_ID_FIELD": "item_id"}, "name the same column"),
    ("BPR", {"transform": "inverse_itemseq"}, "BPR reads none: leave it out"),
    ("SASRec", {"transform": "mask_itemseq"}, "mask_itemseq needs mask_ratio.*from 0.0 to 1.0"),
    ("SASRec", {"transform": "crop_itemseq", "eta": 2}, "crop_itemseq needs eta"),
    ("SASRec", {"transform": "reorder_itemseq"}, "reorder_itemseq needs beta"),
    ("BPR", {"LABEL_FIELD": "user_id"}, "LABEL_FIELD: user_id names a column of ids"),
    ("BPR", {"unused_col": {"inter": ["item_id"]}}, "unused_col drops 'item_id'"),
    ("SASRec", {"n_layers": 0}, "SASRec reads its last layer"),
    ("SASRec", {"repeatable": False}, "needs repeatable: True"),
    ("SASRec", {"loss_type": "XE"}, "SASRec needs CE or BPR"),
    (
        "SASRec",
        {"train_neg_sample_args": {"distribution": "uniform"}},
        "takes no sampled negatives",
    ),
    ("SASRec", {"loss_type": "BPR", "train_neg_sample_args": None}, "SASRec learns from pairs"),
    ("BERT4Rec", {"MAX_ITEM_LIST_LENGTH": 4}, "mask_ratio: 0.2 of .*LENGTH: 4 masks no item"),
    ("SASRec", {"hidden_size": 63}, "cannot build SASRec.*63"),
]


@pytest.mark.parametrize(("model", "values", "message"), CASES)
def test_settings_that_do_not_go_together(tiny, model, values, message):
    leave_nothing()
    with pytest.raises(LLMKTError) as caught:
        train(tiny.config(model, kt_enabled=False, **values))
    assert caught.match(message) and "\n" not in str(caught.value)
    assert list(Path.cwd().iterdir()) == []  # no log, no saved


def test_a_checkpoint_folder_that_is_a_file(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"checkpoint_dir: .*file' is a file"):
        train(tiny.config(kt_enabled=False, checkpoint_dir=str(tmp_path / "file")))


@pytest.mark.parametrize("names", [["a", "b", "a"], ["a", "a", "b"]])
def test_no_benchmark_file_is_trained_and_tested_on(tiny, names):
    for name in names:
        shutil.copy(tiny.folder / "tiny.inter", tiny.folder / f"tiny.{name}.inter")
    with pytest.raises(ConfigError, match="'a' is trained on and evaluated on"):
        train(tiny.config(kt_enabled=False, benchmark_filename=names))


def test_benchmark_files_of_sequential_models_have_one_name_for_items(tiny):
    values = {"benchmark_filename": ["a", "b", "c"], "ITEM_ID_FIELD": "product"}
    config = tiny.config("SASRec", kt_enabled=False, **values)
    wrong = combinations._sequential_benchmark(config.final_config_dict, config.model_class)
    assert "ITEM_ID_FIELD: product" in wrong and "item_id" in wrong


@pytest.mark.parametrize(
    ("model", "values", "library"),
    [
        ("KGAT", {}, "pip install dgl"),
        ("NCL", {}, "pip install faiss-cpu"),
        ("KGIN", {}, "pip install torch-scatter"),
        ("LDiffRec", {"n_cate": 2}, "pip install kmeans-pytorch"),
        ("NNCF", {"neigh_info_method": "louvain"}, "pip install python-louvain"),
    ],
)
def test_libraries_that_a_model_imports_late(tiny, monkeypatch, model, values, library):
    config = tiny.config(model, kt_enabled=False, **values)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=library):
        combinations.check_together(config.final_config_dict, config.model_class, RUN_CHECKS)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    combinations.check_together(config.final_config_dict, config.model_class, RUN_CHECKS)


def test_a_library_that_these_settings_do_not_import(tiny, monkeypatch):
    config = tiny.config("LDiffRec", kt_enabled=False, n_cate=1)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    combinations.check_together(config.final_config_dict, config.model_class, RUN_CHECKS)


@pytest.mark.parametrize(
    ("model", "values"),
    [
        ("BPR", {}),
        ("BPR", {"valid_metric": "ndcg@5"}),
        ("BPR", {"metrics": ["GAUC"], "valid_metric": "GAUC"}),
        (
            "BPR",
            {"metrics": "AUC", "valid_metric": "auc", "eval_args": eval_args(mode="uni20")},
        ),
        ("MultiVAE", {"train_neg_sample_args": None}),
        ("SINE", {"train_neg_sample_args": None, "loss_type": "CE"}),
        (SparseBPR, {"learner": "sparse_adam"}),
        ("SASRec", {"loss_type": "BPR"}),
        ("SASRec", {"transform": "inverse_itemseq"}),
        ("SASRec", {"transform": "crop_itemseq", "eta": 0.5}),
    ],
)
def test_settings_that_go_together(tiny, model, values):
    config = tiny.config(model, kt_enabled=False, **values)
    check_run(config)
    for check in CONFIG_CHECKS:
        assert check(config.final_config_dict, config.model_class) is None


def test_a_model_that_recbole_refuses_as_it_comes_trains(tiny, caplog):
    """SASRec's own default loss contradicts RecBole's default sampling."""
    caplog.set_level("INFO")
    config = tiny.config("SASRec", kt_enabled=False, epochs=1, hidden_size=8)
    assert "train_neg_sample_args is set to None" in caplog.text
    assert config["train_neg_sample_args"]["distribution"] == "none"
    again = type(config)(config_dict=config.plain(), command_line=[])
    assert again.plain() == config.plain()
    assert train(config, saved=False)["test_result"]


# ---- parts of the data ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("split", "parts"),
    [
        ({"RS": [8, 1, 1]}, {"validation": True, "test": True}),
        ({"RS": [8, 2, 0]}, {"validation": True, "test": False}),
        ({"RS": [8, 0, 2]}, {"validation": False, "test": True}),
        ({"LS": "valid_and_test"}, {"validation": True, "test": True}),
        ({"LS": "valid_only"}, {"validation": True, "test": False}),
        ({"LS": "test_only"}, {"validation": False, "test": True}),
    ],
)
def test_parts_of_a_split(split, parts):
    assert parts_of({"benchmark_filename": None, "eval_args": {"split": split}}) == parts


def plan(dataset, **keys):
    return Plan(["BPR"], ["base"], [1], dataset.name, (), dataset.settings(**keys))


@pytest.mark.parametrize("split", [{"RS": [8, 2, 0]}, {"LS": "valid_only"}])
def test_a_comparison_needs_a_test_part(tiny, split):
    with pytest.raises(ConfigError, match="leaves no test part"):
        compare(plan(tiny, eval_args=eval_args(split=split)), Path("out"))
    assert not Path("out").exists()


@pytest.mark.parametrize("split", [{"RS": [8, 0, 2]}, {"LS": "test_only"}])
def test_tuning_needs_a_validation_part(tiny, split):
    pytest.importorskip("optuna")
    with pytest.raises(ConfigError, match="leaves no validation part"):
        tune(Tuning(plan(tiny, eval_args=eval_args(split=split)), 2), Path("out"))
    assert not Path("out").exists()


def test_tuning_needs_validations(tiny):
    pytest.importorskip("optuna")
    with pytest.raises(ConfigError, match="eval_step: 0 trains without validation"):
        tune(Tuning(plan(tiny, eval_step=0), 2), Path("out"))


@pytest.mark.parametrize("values", [{"valid_metric": "NDCG"}, {"topk": [500]}])
def test_a_comparison_refuses_what_a_run_would(tiny, values):
    with pytest.raises(LLMKTError):
        compare(plan(tiny, **values), Path("out"))
    assert not Path("out").exists()


def test_every_pairwise_model_without_negatives_is_known(tiny):
    """The list of models that read whole users is RecBole's own."""
    from recbole.data.utils import get_dataloader

    for name in combinations._WHOLE_USERS:
        assert get_dataloader({"model": name}, "train").__name__ == "UserDataLoader"
    assert BPR.input_type == InputType.PAIRWISE
