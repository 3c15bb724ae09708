"""Bad input of any kind is one clear error, and leaves nothing behind."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_llmkt import (
    export_stock_checkpoint,
    load_data_and_model,
    run_recbole_llmkt,
)
from recbole_llmkt.profiles.embeddings import embedding_paths
from recbole_llmkt.quick_start import train
from recbole_llmkt.registry import get_model
from recbole_llmkt.utils.exceptions import (
    ConfigError,
    DataError,
    LayerError,
    LLMKTError,
    ProfileError,
    RowsError,
)
from tests.helpers import ENCODER, TinyDataset, random_vectors, run, write_profiles


def nothing_is_left_behind() -> bool:
    return not [path for path in Path("saved").glob("*")] if Path("saved").exists() else True


@pytest.mark.parametrize(
    ("keys", "error", "words"),
    [
        ({"kt_layer": "user_embeding"}, LayerError, ["user_embeding", "Did you mean", "item_emb"]),
        ({"kt_layer": "user embedding"}, LayerError, ["Cannot read the layer"]),
        ({"kt_layer": "forward()[9]"}, LayerError, ["[9]", "a tuple of 2"]),
        ({"kt_layer": "predict()"}, LayerError, ["never runs", "llmkt layers"]),
        ({"kt_layer": "user_embedding()"}, LayerError, ["Did you mean 'user_embedding'"]),
        ({"kt_rows": "node"}, RowsError, ["kt_rows: node", "another kt_rows"]),
        ({"kt_rows": "tabel"}, ConfigError, ["Did you mean 'table'"]),
        ({"kt_loss": "huber"}, ConfigError, ["kt_loss", "rmse"]),
        ({"kt_loss": "no.such.Loss"}, ConfigError, ["Cannot import 'no.such.Loss'"]),
        ({"kt_weight": 1.5}, ConfigError, ["kt_weight", "0.0 to 1.0"]),
        ({"kt_weight": [0.6, 0.6]}, ConfigError, ["more than 1"]),
        ({"kt_weight": [0.1, 0.2], "kt_entity": ["user"]}, ConfigError, ["the same length"]),
        (
            {"kt_layer": ["user_embedding"], "kt_rows": ["lookup"] * 2},
            ConfigError,
            ["the same length"],
        ),
        (
            {"kt_layer": ["user_embedding"] * 3, "kt_entity": "both"},
            ConfigError,
            ["kt_layer has 3"],
        ),
        ({"epochs": 1}, ConfigError, ["epochs: 1", "kt_epochs: 0.5", "2 or more"]),
        ({"embedding_size": 1}, LayerError, ["1 wide", "nothing to reconstruct"]),
        ({"embedding_size": 64}, ConfigError, ["64 wide", "24 wide", "kt_transform: random"]),
        ({"kt_transform": "none"}, ConfigError, ["24 wide", "8 wide", "kt_projector: linear"]),
        ({"kt_projector": "linear", "kt_projector_dim": 50}, ConfigError, ["50 wide"]),
        ({"profile_dir": "nowhere"}, ProfileError, ["nowhere", "llmkt profile"]),
        ({"data_path": "nowhere"}, DataError, ["nowhere", "tiny", "data_path"]),
        ({"load_col": {"inter": ["user_id", "item_id", "stars"]}}, DataError, ["stars"]),
        ({"eval_args": {"order": "TO"}, "TIME_FIELD": "when"}, DataError, ["when"]),
        ({"USER_ID_FIELD": "who"}, DataError, ["who"]),
        ({"user_inter_num_interval": "[1000,inf)"}, DataError, ["user_inter_num_interval"]),
    ],
    ids=str,
)
def test_bad_input_is_one_clear_error(tiny, keys, error, words):
    with pytest.raises(error) as caught:
        run(tiny, saved=True, **keys)
    assert all(word in str(caught.value) for word in words), caught.value
    assert nothing_is_left_behind()


@pytest.mark.parametrize(
    ("model", "keys", "error", "words"),
    [
        ("LR", {}, LayerError, ["width 1"]),
        ("LR", {"kt_layer": "token_embedding_table.embedding.weight"}, LayerError, ["never runs"]),
        ("LR", {"kt_layer": "first_order_linear"}, LLMKTError, ["wide"]),
        ("Pop", {}, ConfigError, ["Pop takes no profiles", "kt_enabled: False"]),
        ("NuMF", {}, ConfigError, ["Unknown model 'NuMF'", "NeuMF"]),
        ("MultiVAE", {"kt_layer": "rating_matrix"}, LayerError, ["no layer"]),
    ],
)
def test_models_that_cannot_learn_so(tiny, model, keys, error, words):
    labelled = {"threshold": {"rating": 3}} if model == "LR" else {}
    modes = {"eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "group_by": "user"}}
    with pytest.raises(error) as caught:
        run(tiny, model, **labelled, **modes, **keys)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_layer_without_gradient(tiny):
    with pytest.raises(LayerError, match="No gradient flows from 'fixed'"):
        run(tiny, f"{__name__}.Constant", kt_layer="fixed")


class Constant(get_model("BPR")):
    """A model with a layer that depends on no parameter."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.fixed = torch.nn.Identity()

    def calculate_loss(self, interaction):
        self.fixed(torch.ones(len(interaction), 8) * interaction["user_id"].unsqueeze(1))
        return super().calculate_loss(interaction)


def test_a_dataset_that_does_not_exist(tiny):
    expected = {
        "tinny": "There is no dataset 'tinny': the folder .*data/tinny does not exist.* Did you "
        "mean 'tiny'",
        "no/such": "is a path: give the name of its folder alone",
        "é" * 60: "shorter: at most 100 bytes",
        "": "No dataset is given",
    }
    for name, message in expected.items():
        with pytest.raises(LLMKTError, match=message):
            run_recbole_llmkt("BPR", name, config_dict=tiny.settings())


def test_a_missing_atomic_file(tiny):
    (tiny.folder / "tiny.inter").unlink()
    with pytest.raises(DataError, match=r"tiny\.inter"):
        run(tiny)


def test_no_profile_at_all(make_dataset):
    with pytest.raises((ProfileError, DataError), match=r"llmkt profile|tiny\.item"):
        run(make_dataset())


def test_profiles_of_another_dataset(make_dataset):
    dataset = make_dataset()
    tokens = ["x1", "x2", "x3"]
    write_profiles(dataset.folder / "profiles", "user", random_vectors(tokens), {})
    with pytest.raises(ProfileError, match=r"None of the 3 profiles.*'x1'"):
        run(dataset)


def embeddings_of(dataset: TinyDataset) -> tuple[Path, np.ndarray]:
    path, _ = embedding_paths(dataset.folder / "profiles", ENCODER, "user")
    return path, np.load(path)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_embeddings_that_are_no_numbers(tiny, number):
    path, vectors = embeddings_of(tiny)
    vectors[3, 5] = number
    np.save(path, vectors)
    with pytest.raises(ProfileError, match="vectors with NaN or infinite"):
        run(tiny)


def test_embeddings_of_a_wrong_width_or_number(tiny):
    path, vectors = embeddings_of(tiny)
    for wrong in (vectors[:, :7], vectors[:-1], vectors.ravel()):
        np.save(path, wrong)
        with pytest.raises(ProfileError, match="lists 30 ids and a width of 24"):
            run(tiny)
    path.write_bytes(b"broken")
    with pytest.raises(
        ProfileError, match=r"Cannot read the embeddings .*a pickle\), which are not"
    ):
        run(tiny)


@pytest.mark.parametrize("name", ["nowhere.pth", "broken.pth"])
def test_unreadable_checkpoints(name):
    Path("broken.pth").write_bytes(b"PK broken")
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        load_data_and_model(name)
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        export_stock_checkpoint(name, "out.pth")
    assert not Path("out.pth").exists()


def test_an_exported_checkpoint_would_give_rows_to_others(tiny):
    """Stock RecBole numbers ids by today's files."""
    result = run(tiny, saved=True)
    header, *lines = (tiny.folder / "tiny.inter").read_text().splitlines()
    (tiny.folder / "tiny.inter").write_text("\n".join([header, *sorted(lines)]) + "\n")
    with pytest.raises(DataError, match="row 1 of 'user_id' is"):
        export_stock_checkpoint(result["checkpoint"], "out.pth")
    assert not Path("out.pth").exists()


def test_the_password_of_an_address_is_in_no_file_and_no_log(tiny, tmp_path, monkeypatch):
    address = "http://me:pass-word@127.0.0.1:9/v1"
    monkeypatch.setattr(sys, "argv", ["test", f"--profile_api_base={address}"])
    config = tiny.config(profile_api_base=address, epochs=2)
    assert config["profile_api_base"] == address
    result = train(config, verbose=True)
    stored = torch.load(result["checkpoint"], weights_only=True)["config"]
    assert stored["profile_api_base"] == "http://127.0.0.1:9/v1"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in files)
    assert not [path for path in files if b"pass-word" in path.read_bytes()]


@pytest.mark.parametrize("key", ["kt_preset", "profile_encoder"])
def test_a_name_too_long_for_the_file_system_is_one_that_is_not_there(tiny, key):
    with pytest.raises(LLMKTError) as caught:
        run(tiny, kt_entity="user", **{key: "x" * 5000})
    assert "\n" not in str(caught.value)
