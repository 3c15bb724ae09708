"""The files of single models train as they are, with the profiles of a dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_llmkt.config import Config
from recbole_llmkt.quick_start import train
from recbole_llmkt.utils.parsing import load_yaml
from tests.helpers import ENCODER, add_profiles

FILES = sorted((Path(__file__).parents[2] / "examples" / "models").glob("*.yaml"))


def test_the_models_that_most_people_begin_with_are_there():
    assert {path.stem for path in FILES} == {"EASE", "LightGCN", "SASRec"}


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_file_fits_the_bundled_profiles(path):
    config = Config(path.stem, "ml-100k", [str(path)], command_line=[])
    assert config["kt_preset"] == "recommended" and config["kt_entity"] == "item"
    assert f"llmkt train --model={path.stem} --dataset=ml-100k" in path.read_text("utf-8")


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_file_trains_with_profiles(tiny, path):
    add_profiles(tiny)
    keys = tiny.settings(epochs=2, topk=[10], kt_neighbours=2, profile_encoder=ENCODER)
    keys = {name: value for name, value in keys.items() if name not in load_yaml(path)}
    config = Config(path.stem, tiny.name, [str(path)], keys, command_line=[])
    result = train(config, saved=False)
    assert result["transfer"] is not None
    assert 0.0 <= result["test_result"]["ndcg@10"] <= 1.0
