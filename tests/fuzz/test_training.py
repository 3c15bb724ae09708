"""Whole runs: whatever a key of RecBole's says, a run ends with a result, or before its first step.

What the first step finds out alone is named: a loss that is no number, half precision.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recbole_llmkt.config import Config
from recbole_llmkt.keys.hyperparameters import properties
from recbole_llmkt.keys.recbole_table import RECBOLE_KEYS
from recbole_llmkt.quick_start import train
from recbole_llmkt.utils.exceptions import LLMKTError, TrainingError
from tests.fuzz.cases import JSON_VALUES, ODD, survives

MODELS = ("BPR", "SASRec", "DeepFM", "LightGCN", "MultiVAE")
NUMBERS = st.sampled_from([0, 1, 2, 3, -1, 0.0, 0.5, 1.0, 1.5, [1], [4, 2], [0], [], [0.5], 1e-30])
COLUMNS = ("user_id", "item_id", "rating", "timestamp", "age", "label", "item_id_list", "no_such")
NAMES = st.sampled_from(
    [*COLUMNS, *([name] for name in COLUMNS), *({name: "[1,3]"} for name in COLUMNS)]
)
# These would only take long, or much memory.
COSTLY = {"epochs", "worker", "MAX_ITEM_LIST_LENGTH", "data_path", "checkpoint_dir"}


@pytest.fixture(scope="module")
def keys_of_the_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "tiny").mkdir()
    rows = [
        f"u{user}\ti{(user + step * step) % 9}\t{1 + (user * step) % 5}\t{10 * step + user}"
        for user in range(8)
        for step in range(6)
    ]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (folder / "tiny" / "tiny.inter").write_text("\n".join([header, *rows]) + "\n")
    users = "".join(f"u{user}\t{20 + user}\n" for user in range(8))
    (folder / "tiny" / "tiny.user").write_text("user_id:token\tage:float\n" + users)
    return {
        "data_path": str(folder),
        "load_col": {"inter": list(COLUMNS[:4]), "user": ["user_id", "age"]},
        "threshold": {"rating": 3},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
        **{"embedding_size": 4, "MAX_ITEM_LIST_LENGTH": 3, "topk": [2], "metrics": ["NDCG"]},
        **{"valid_metric": "NDCG@2", "epochs": 1, "train_batch_size": 32, "kt_enabled": False},
        **{"show_progress": False, "state": "ERROR", "use_gpu": False, "n_layers": 1},
        **{"hidden_size": 4, "inner_size": 4, "mlp_hidden_size": [4], "latent_dimension": 4},
    }


@st.composite
def settings_of_a_run(draw):
    """Draw a model and one or two of its keys."""
    model = draw(st.sampled_from(MODELS))
    names = sorted({*RECBOLE_KEYS, *properties("model")[model]} - COSTLY)
    chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=2))
    return model, {name: draw(NUMBERS | NAMES | ODD | JSON_VALUES) for name in chosen}


@given(settings_of_a_run())
@example(("SASRec", {"n_layers": 0}))
@example(("DeepFM", {"LABEL_FIELD": "user_id"}))
@example(("BPR", {"transform": "crop_itemseq"}))
@example(("BPR", {"unused_col": {"inter": ["user_id"]}}))
@example(("BPR", {"eval_args": None}))
def test_a_run(keys_of_the_data, drawn):
    model, keys = drawn
    for name in ("log", "log_tensorboard", "saved"):
        shutil.rmtree(name, ignore_errors=True)
    values = {**keys_of_the_data, **keys}
    config = survives(Config, model, "tiny", config_dict=values, command_line=[])
    if isinstance(config, LLMKTError):
        return
    result = survives(train, config, saved=True, verbose=True)
    in_training = isinstance(result, TrainingError) or "in its first step" in str(result)
    if isinstance(result, LLMKTError) and not in_training:
        assert not [path for path in Path().rglob("*") if path.is_file()]
