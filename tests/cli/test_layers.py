"""The command ``llmkt layers``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from recbole_llmkt.cli.layers import layers
from recbole_llmkt.compat import lacks_model
from recbole_llmkt.registry import get_model
from recbole_llmkt.transfer.inspection.layers import Layer
from recbole_llmkt.utils import resources
from recbole_llmkt.utils.exceptions import DataError


def call(dataset, model, *flags):
    file = Path("settings.yaml")
    file.write_text(yaml.safe_dump(dataset.settings(state="ERROR")))
    arguments = [f"--model={model}", f"--dataset={dataset.name}", f"--config-files={file}", *flags]
    return CliRunner().invoke(layers, arguments, catch_exceptions=False)


def test_a_table_with_the_default_marked(tiny):
    lines = call(tiny, "NeuMF").stdout.splitlines()
    assert lines[0].split()[:5] == ["layer", "kind", "shape", "rows", "entity"]
    marked = {line.split()[1]: line.split()[-5:] for line in lines if line.startswith("*")}
    assert set(marked) == {"user_mf_embedding", "item_mf_embedding"}
    assert marked["user_mf_embedding"] == ["lookup", "user", "8", "1", "248"]
    assert not any("mlp_layers" in line for line in lines)


def test_all_lists_states_that_mix_too(tiny):
    mixed = [line for line in call(tiny, "NeuMF", "--all").stdout.splitlines() if "mixed" in line]
    assert any("mlp_layers.mlp_layers" in line for line in mixed)


def test_the_same_as_data(tiny):
    places = json.loads(call(tiny, "LightGCN", "--json").stdout)
    default = {place["entity"]: place["layer"] for place in places if place["default"]}
    assert default == {"user": "forward()[0]", "item": "forward()[1]"}
    shapes = {place["layer"]: place["shape"] for place in places}
    assert shapes["forward()[0]"] == "(U, 8)"
    assert shapes["forward()[1]"] == "(I, 8)"
    assert {"kind", "rows", "width", "reach", "calls", "order", "pure"} <= set(places[0])


def test_a_missing_dataset_is_said(tiny):
    tiny.name = "tinny"
    with pytest.raises(DataError, match="no dataset 'tinny'"):
        call(tiny, "BPR")


def test_needs_no_profiles_and_trains_nothing(make_dataset):
    dataset = make_dataset()
    assert call(dataset, "BPR").exit_code == 0
    assert not list(Path("saved").glob("*")) if Path("saved").is_dir() else True


def test_a_sequential_model_needs_no_further_keys(make_dataset):
    dataset = make_dataset(n_users=12)
    split = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}
    shapes = call(dataset, "GRU4Rec", f"--eval_args={split}").stdout
    assert "(B, L, 8)" in shapes


@pytest.mark.parametrize("name", resources.names("model"))
def test_every_preset_names_a_model_and_gives_its_reason(name):
    if lacks_model(name):
        pytest.skip(lacks_model(name))
    path = resources.properties_dir() / "model" / f"{name}.yaml"
    content = yaml.safe_load(path.read_text())
    assert get_model(name).__name__ == name
    assert path.read_text().startswith("# ")
    layers = {"kt_user_layer", "kt_item_layer", "kt_pool"}
    solved = {"kt_closed_form", "kt_closed_form_weight"}
    assert set(content) <= layers or {"kt_closed_form"} <= set(content) <= solved
    for key in ("kt_user_layer", "kt_item_layer"):
        assert str(Layer.parse(content.get(key, "x"))) == content.get(key, "x")
