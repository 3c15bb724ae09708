"""Atomic files that a run cannot use, each with one line of our own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from recbole_llmkt.datasets.checks import check_candidates, check_files
from recbole_llmkt.datasets.splits import training_split
from recbole_llmkt.quick_start import train
from recbole_llmkt.utils.exceptions import DataError, LLMKTError
from tests.helpers import IS_NEWEST_RECBOLE

SPLIT = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "group_by": "user", "mode": "full"}


def inter(tiny) -> Path:
    return tiny.folder / "tiny.inter"


def rewrite(path: Path, change) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def refused(tiny, model="BPR", **values) -> str:
    for path in Path.cwd().iterdir():  # what making the dataset's profiles left
        shutil.rmtree(path)
    with pytest.raises(LLMKTError) as caught:
        train(tiny.config(model, kt_enabled=False, epochs=1, **values))
    assert "\n" not in str(caught.value)
    assert list(Path.cwd().iterdir()) == []  # no log, no saved
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("\t", ","), "separated by ',', not by '\\t'"),
        (lambda text: text.replace("\t", ";"), "set field_separator: ';'"),
        (lambda text: text.replace("user_id:token", "user_id"), "'user_id' in the first line"),
        (lambda text: text.replace("rating:float", "rating:number"), "one of the types token"),
        (lambda text: text.replace("rating:float", "item_id:token"), "two columns 'item_id'"),
        (lambda text: text.replace("rating:float", "rate:float"), "no column 'rating' (load_col"),
        (lambda text: text.replace("timestamp:float", "timestamp:token"), "'timestamp' as float"),
        (lambda text: text.replace("user_id:token", "user_id:float"), "'user_id' as token"),
        (lambda text: "", "no header"),
        (lambda text: "\ufeff" + text, "byte-order mark.*encoding: utf-8-sig"),
        (lambda text: text.splitlines()[0] + "\n", "Some feat is empty"),
        (lambda text: text + "u1\ti1\tfive\t1\n", "rating:float"),
    ],
)
def test_files_of_another_form(tiny, change, words):
    rewrite(inter(tiny), change)
    message = refused(tiny)
    assert all(part in message for part in words.split(".*"))


def test_files_of_another_encoding(tiny):
    path = inter(tiny)
    text = path.read_text()
    path.write_text(text, encoding="utf-16")
    assert "is not utf-8" in refused(tiny)
    path.write_text(text.replace("rating", "räting"), encoding="latin-1")
    assert "set encoding to the file's" in refused(tiny)
    path.write_text(text, encoding="utf-8-sig")
    check_files(tiny.config(encoding="utf_8_sig"))


def test_a_byte_order_mark_in_any_file(tiny):
    (tiny.folder / "tiny.item").write_text("\ufeffitem_id:token\ttitle:token_seq\ni1\tA\n")
    columns = {"inter": ["user_id", "item_id", "rating", "timestamp"], "item": "*"}
    assert "tiny.item' starts with a byte-order mark" in refused(tiny, load_col=columns)


def test_profiles_are_written_from_no_such_file_either(tiny):
    rewrite(inter(tiny), lambda text: text.replace("\t", ","))
    with pytest.raises(DataError, match="separated by ','"):
        training_split(tiny.config())


ROWS = ["user_id", "item_id"]
TIMED = [*ROWS, "timestamp"]


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        ("BPR", {"load_col": {"inter": ROWS}}, "order: TO needs 'timestamp' (TIME_FIELD)"),
        ("BPR", {"TIME_FIELD": None}, "order: TO needs TIME_FIELD"),
        pytest.param(
            "BPR",
            {"load_col": {"inter": ROWS}, "eval_args": {"split": {"TS": [8, 1, 1]}, "order": "RO"}},
            "split: TS needs 'timestamp'",
            marks=pytest.mark.skipif(not IS_NEWEST_RECBOLE, reason="new in RecBole 1.2.1"),
        ),
        (
            "SASRec",
            {"load_col": {"inter": ROWS}, "eval_args": {**SPLIT, "order": "RO"}},
            "SASRec needs 'timestamp' (TIME_FIELD) in load_col, inter",
        ),
        ("BPR", {"load_col": {"inter": ["item_id", "timestamp"]}}, "needs 'user_id'"),
        ("BPR", {"load_col": {"inter": TIMED}, "threshold": {"rating": 3}}, "threshold needs 'rat"),
        ("BPR", {"val_interval": {"age": "[3,5]"}}, "val_interval needs 'age'"),
        ("BPR", {"normalize_field": ["age"]}, "normalize_field needs 'age'"),
        ("BPR", {"normalize_field": ["user_id"]}, "normalize_field needs 'user_id' as float or"),
        ("BPR", {"discretization": {"age": {"method": "LD"}}}, "discretization needs 'age'"),
        ("BPR", {"unused_col": {"user": ["age"]}}, "unused_col (user) needs 'age' in load_col, us"),
        ("BPR", {"alias_of_item_id": ["other"]}, "alias_of_item_id needs 'other'"),
        ("GRU4RecF", {}, "GRU4RecF (selected_features) needs 'class' in load_col, item"),
        ("CKE", {}, "CKE needs 'head_id' (HEAD_ENTITY_ID_FIELD) in load_col, kg"),
        (
            "BPR",
            {
                "metrics": ["AUC"],
                "valid_metric": "AUC",
                "eval_args": {**SPLIT, "mode": "labeled"},
            },
            "mode: labeled needs 'label' (LABEL_FIELD) in load_col, inter, or a column",
        ),
        ("BPR", {"load_col": {"inter": TIMED, "user": ["user_id"]}}, "no file"),
        ("BPR", {"additional_feat_suffix": ["emb"]}, "no file"),
        ("BPR", {"benchmark_filename": ["a", "b", "c"]}, "no file"),
        ("BPR", {"topk": [41], "valid_metric": "NDCG@41"}, "topk: 41 is more than the 40 items"),
        (
            "BPR",
            {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 41}},
            "sample_num: 41 is more than the 40 items",
        ),
        ("NCL", {"num_clusters": 1000}, "num_clusters: 1000"),
        ("BPR", {"user_inter_num_interval": "[1000,inf)"}, "the filters"),
    ],
)
def test_columns_and_files_that_settings_need(tiny, model, values, message):
    assert message in refused(tiny, model, **values)


@pytest.mark.parametrize("model", ["DeepFM", "BPR"])
@pytest.mark.parametrize(
    ("values", "label"),
    [({"threshold": {"rating": 99}}, 0), ({"val_interval": {"rating": "[4,inf)"}}, 1)],
)
def test_labels_that_are_all_equal(tiny, model, values, label):
    """AUC would be no number, and no checkpoint ever the best."""
    measured = {"metrics": ["AUC"], "valid_metric": "AUC"}
    labelled = {"eval_args": {**SPLIT, "mode": "labeled"}, "threshold": {"rating": 3}}
    message = refused(tiny, model, **measured, **{**labelled, **values})
    assert f"have the label {label} (label), so there is nothing to tell apart" in message


def test_sequential_benchmark_files_need_the_items_before(tiny):
    for part in ("a", "b", "c"):
        (tiny.folder / f"tiny.{part}.inter").write_text(inter(tiny).read_text())
    values = {"benchmark_filename": ["a", "b", "c"]}
    assert "needs 'item_id_list' in load_col, inter" in refused(tiny, "SASRec", **values)
    check_files(tiny.config("BPR", **values))


def test_filters_count_for_topk(tiny):
    """The file has 40 items; the filter leaves fewer."""
    values = {"topk": [40], "valid_metric": "NDCG@40"}
    check_candidates(tiny.config(**values))
    counts = {}
    for _, item, *_ in tiny.rows:
        counts[item] = counts.get(item, 0) + 1
    fewest = sorted(counts.values())[0] + 1
    message = refused(tiny, **values, item_inter_num_interval=f"[{fewest},inf)")
    assert "topk: 40 is more than the" in message


def test_topk_counts_the_items_of_the_item_file(tiny):
    lines = ["item_id:token", *(f"i{number}" for number in range(60))]
    (tiny.folder / "tiny.item").write_text("\n".join(lines) + "\n")
    columns = {"inter": ["user_id", "item_id", "rating", "timestamp"], "item": ["item_id"]}
    values = {"topk": [50], "valid_metric": "NDCG@50", "load_col": columns}
    assert train(tiny.config(kt_enabled=False, epochs=1, **values), saved=False)["test_result"]


def test_topk_is_checked_without_reading_a_whole_file(tiny):
    rewrite(inter(tiny), lambda text: text + "x" * 10**6)
    check_candidates(tiny.config())


def test_a_path_of_data_that_is_a_file(tiny):
    assert "is a file" in refused(tiny, data_path=str(inter(tiny)))


@pytest.mark.parametrize("side", ["user", "item"])
def test_dssm_with_floats_on_one_side(tiny, side):
    for name, ids in (("user", "u"), ("item", "i")):
        rows = [f"{ids}{number}\t{number}" for number in range(60)]
        header = f"{name}_id:token\tsize_{name}:float"
        (tiny.folder / f"tiny.{name}").write_text("\n".join([header, *rows]) + "\n")
    values = {
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "threshold": {"rating": 3},
        "metrics": ["AUC"],
        "valid_metric": "AUC",
        "eval_args": {**SPLIT, "mode": "labeled"},
    }
    for name in ("user", "item"):
        values["load_col"][name] = [f"{name}_id", f"size_{name}"]
    message = refused(tiny, "DSSM", numerical_features=[f"size_{side}"], **values)
    assert "DSSM cannot have float columns on one side only" in message
    both = ["size_user", "size_item"]
    config = tiny.config("DSSM", kt_enabled=False, epochs=1, numerical_features=both, **values)
    assert train(config, saved=False)["test_result"]


@pytest.mark.parametrize("name", ["..", ".", " ", "a\nb", "../x", "a/b"])
def test_odd_names_of_datasets(tiny, name):
    with pytest.raises(LLMKTError, match="dataset") as caught:
        type(tiny.config())("BPR", name, config_dict=tiny.settings(), command_line=[])
    assert "\n" not in str(caught.value)
