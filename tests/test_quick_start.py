"""Runs in one call: their result, and what is loaded again."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from recbole_llmkt import (
    export_stock_checkpoint,
    load_data_and_model,
    objective_function,
    run_recbole_llmkt,
)
from recbole_llmkt.cli.main import main
from recbole_llmkt.quick_start import train
from recbole_llmkt.registry import get_model
from recbole_llmkt.stock import main as run_stock_script
from recbole_llmkt.utils.exceptions import (
    LeakError,
)
from tests.helpers import add_profiles, in_fork, run


class MyBPR(get_model("BPR")):
    """A model of the user's own, known by its class path."""


# ---- results -------------------------------------------------------------------------------------


def test_the_result_is_recboles_and_the_transfers(tiny):
    result = run(tiny, saved=True)
    assert {"best_valid_score", "valid_score_bigger", "best_valid_result", "test_result"} < set(
        result
    )
    assert set(result["test_result"]) == {"recall@5", "ndcg@5"}
    transfer = result["transfer"]
    (term,) = transfer["terms"]
    assert (term["layer"], term["entity"], term["width"]) == ("user_embedding", "user", 8)
    assert term["coverage"] == 1.0 and term["profiles"] == 30
    assert transfer["phase_switch"] == 1 and transfer["leaks"] == 0
    assert len(transfer["model_loss"]) == len(transfer["transfer_loss"]) == 1
    assert Path(result["checkpoint"]).is_file()
    json.dumps(transfer)


def test_without_transfer_there_is_none(tiny):
    result = run(tiny, kt_enabled=False)
    assert result["transfer"] is None and result["checkpoint"] is None


def test_the_same_run_twice_gives_the_same_numbers(tiny):
    first, second = (run(tiny, "NeuMF", kt_projector="mlp", dropout_prob=0.2) for _ in range(2))
    by_user, again = first.pop("users").values, second.pop("users").values
    assert first == second and set(by_user) == set(again) == {"recall@5", "ndcg@5"}
    assert all(np.array_equal(by_user[name], again[name]) for name in by_user)


@pytest.mark.parametrize("model", [MyBPR, f"{__name__}.MyBPR"], ids=["class", "path"])
def test_a_model_of_the_users_own(tiny, model):
    result = run(tiny, model, saved=True)
    assert result["transfer"]["terms"][0]["width"] == 8
    assert type(load_data_and_model(result["checkpoint"], trust=True)[1]).__name__ == "MyBPR"


def test_a_benchmark_of_ready_made_parts(make_dataset):
    dataset = make_dataset()
    head, *rows = (dataset.folder / "tiny.inter").read_text().splitlines()
    parts = {"train": rows[:300], "valid": rows[300:360], "test": rows[360:]}
    for name, part in parts.items():
        (dataset.folder / f"tiny.{name}.inter").write_text("\n".join([head, *part]) + "\n")
    keys = {"benchmark_filename": ["train", "valid", "test"]}
    add_profiles(dataset, **keys)
    result = run(dataset, **keys)
    assert result["transfer"]["leaks"] == 0
    with pytest.raises(LeakError):
        run(dataset)  # the split by eval_args is another one


def test_an_error_is_not_below_the_whole_configuration(tiny):
    """Whatever is refused is refused before RecBole's settings are logged."""
    Path("f.yaml").write_text(yaml.safe_dump(tiny.settings(epochs=2)))
    keys = {"kt_layer": "no_such_layer"}
    done = in_fork(lambda: run_recbole_llmkt("BPR", "tiny", ["f.yaml"], keys))
    assert done.returncode == 1 and "no_such_layer" in done.stderr
    assert "train_batch_size" not in done.stderr


def test_loaded_again_it_predicts_the_same(tiny):
    result = run(tiny, "NeuMF", saved=True, kt_projector="linear")
    config, model, _, train_data, _, test_data = load_data_and_model(result["checkpoint"])
    assert config["kt_projector"] == "linear" and type(model).__name__ == "NeuMF"
    from recbole_llmkt.training.factory import get_trainer

    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.eval_collector.data_collect(train_data)
    again = trainer.evaluate(test_data, load_best_model=False)
    assert again == result["test_result"]


STOCK = """
import sys, torch
from recbole.quick_start import load_data_and_model
config, model, dataset, *_ = load_data_and_model(sys.argv.pop(1))
model.eval()
batch = {"user_id": torch.arange(1, 6), "item_id": torch.arange(1, 6)}
print("SCORES", model.predict(batch).tolist(), type(model).__module__, config["my_key"])
"""


def test_an_exported_checkpoint_loads_in_stock_recbole(tiny):
    attack = "__import__('os').system('touch owned')"
    result = run(tiny, "NeuMF", saved=True, my_key=attack)
    export_stock_checkpoint(result["checkpoint"], "stock/model.pth", trust=True)
    Path("stock.py").write_text(STOCK)
    done = in_fork(run_stock_script, "stock.py", "stock/model.pth")
    line = next(
        (printed for printed in done.stdout.splitlines() if printed.startswith("SCORES")), ""
    )
    assert line, done.stderr[-2000:]
    model = load_data_and_model(result["checkpoint"])[1].eval()
    batch = {"user_id": torch.arange(1, 6), "item_id": torch.arange(1, 6)}
    assert line == f"SCORES {model.predict(batch).tolist()} recbole.{NEUMF} {attack}"
    assert not Path("owned").exists()


NEUMF = "model.general_recommender.neumf"


def test_objective_function_takes_what_a_search_gives(tiny):
    result = objective_function(
        tiny.settings(model="NeuMF", dataset="tiny", epochs=2, mlp_hidden_size="[8]"), saved=False
    )
    assert result["model"] == "NeuMF" and result["transfer"]["phase_switch"] == 1
    assert {"best_valid_score", "valid_score_bigger", "best_valid_result"} < set(result)


def test_objective_of_recboles_hypertuning(tiny):
    pytest.importorskip("hyperopt")
    from recbole.trainer import HyperTuning

    Path("params").write_text(
        "kt_weight choice [0.1,0.9]\nmlp_hidden_size choice ['[8]','[16,8]']\n"
    )
    fixed = tiny.settings(model="NeuMF", dataset="tiny", epochs=2)
    Path("fixed.yaml").write_text(yaml.safe_dump(fixed))
    seen = []

    def objective(config_dict=None, config_file_list=None):
        seen.append(copy.deepcopy(config_dict))
        return objective_function(config_dict, config_file_list, saved=False)

    tuning = HyperTuning(
        objective, algo="exhaustive", params_file="params", fixed_config_file_list=["fixed.yaml"]
    )
    tuning.run()
    assert len(seen) == 4 and set(tuning.best_params) == {"kt_weight", "mlp_hidden_size"}
    losses = {json.dumps(result["test_result"]) for result in tuning.params2result.values()}
    assert len(losses) > 1


# ---- profiles and the split ----------------------------------------------------------------------


def test_profiles_of_another_split_are_refused_and_counted_where_allowed(tiny):
    other = {"split": {"RS": [0.5, 0.2, 0.3]}, "order": "TO", "group_by": "user", "mode": "full"}
    with pytest.raises(LeakError, match=r"30 of 30 user profiles.*profile_allow_leak: True"):
        run(tiny, eval_args=other)
    result = run(tiny, eval_args=other, profile_allow_leak=True)
    assert result["transfer"]["leaks"] == 30
    assert result["transfer"]["terms"][0]["leaks"] == 30


def test_one_stale_profile_is_enough(tiny):
    path = tiny.folder / "profiles" / "user.jsonl"
    lines = path.read_text().splitlines()
    stale = json.loads(lines[4])
    lines[4] = json.dumps({**stale, "history": "0" * 16})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(LeakError, match=rf"1 of 30 .*'{stale['id']}'"):
        run(tiny)


def test_entities_without_a_profile_take_no_part(make_dataset):
    dataset = make_dataset()
    add_profiles(dataset, without=[f"u{i}" for i in range(10)])
    result = run(dataset)
    assert result["transfer"]["terms"][0]["coverage"] == pytest.approx(2 / 3)


# ---- splits without a part -----------------------------------------------------------------------


@pytest.mark.parametrize("split", [{"RS": [8, 2, 0]}, {"LS": "valid_only"}])
@pytest.mark.parametrize("saved", [True, False])
def test_a_split_without_a_test_part_has_a_validation(tiny, split, saved):
    args = {"split": split, "order": "TO", "group_by": "user", "mode": "full"}
    config = tiny.config(kt_enabled=False, epochs=2, eval_args=args, kt_slices=["history"])
    result = train(config, saved=saved)
    assert result["test_result"] is None and result["users"] is None and result["slices"] == []
    assert result["best_valid_result"]["ndcg@5"] >= 0


def test_the_command_prints_the_validation_then(tiny):
    Path("f.yaml").write_text(yaml.safe_dump(tiny.settings(epochs=1, kt_enabled=False)))
    keys = ["--eval_args={'split': {'LS': 'valid_only'}, 'order': 'TO', 'mode': 'full'}"]
    arguments = ["train", "-m", "BPR", "-d", "tiny", "--config-files=f.yaml", *keys]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "no test part" in done.output and "ndcg@5: " in done.output


@pytest.mark.parametrize("split", [{"RS": [8, 0, 2]}, {"LS": "test_only"}])
def test_a_split_without_a_validation_part_has_a_test(tiny, split):
    args = {"split": split, "order": "TO", "group_by": "user", "mode": "full"}
    result = train(tiny.config(kt_enabled=False, epochs=2, eval_args=args))
    assert result["test_result"]["ndcg@5"] >= 0 and result["best_valid_result"] is None


def test_what_loading_logs_is_in_the_log(tiny):
    """It is held back until the data are known to be good."""
    keys = {"epochs": 1, "kt_enabled": False}
    Path("f.yaml").write_text(yaml.safe_dump(tiny.settings()))
    done = in_fork(lambda: run_recbole_llmkt("BPR", "tiny", ["f.yaml"], keys))
    assert done.returncode == 0, done.stderr
    (log,) = Path("log", "BPR").glob("*.log")
    text = log.read_text()
    places = [text.index(words) for words in ("Hyper Parameters", "[Training]: ", "Trainable")]
    assert places == sorted(places) and text.count("[Training]: ") == 1
    assert done.stderr.count("[Training]: ") == 1
