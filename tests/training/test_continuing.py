"""Training that starts from an earlier model, on data that have changed since."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner

from recbole_llmkt.checkpoints import load_checkpoint
from recbole_llmkt.cli.main import main
from recbole_llmkt.datasets.vocabulary import Vocabulary
from recbole_llmkt.quick_start import train
from recbole_llmkt.utils.exceptions import ConfigError, DataError
from tests.datasets.test_vocabulary import MODELS, RANDOM_SPLIT, rewrite, shuffled
from tests.recommend.test_newcomers import fit as fit_shop
from tests.recommend.test_newcomers import shop, write_tastes  # noqa: F401 - a fixture

GROWN = ["newcomer\ti1\t3\t5", "newcomer\ti2\t5\t6", "newcomer\ti3\t3\t7", "u3\tnovelty\t4\t1"]
GROWN += [f"newcomer\ti{n}\t4\t{n}" for n in range(10, 20)]


def fit(dataset, model, start=None, **keys):
    keys = {"kt_enabled": False, "epochs": 1, "eval_args": RANDOM_SPLIT, **MODELS[model], **keys}
    config = dataset.config(model, **keys)
    return train(config, verbose=False, evaluate_test=False, start_from=start)["checkpoint"]


def rows_of(checkpoint, parameter, field):
    saved = load_checkpoint(checkpoint)
    names = Vocabulary.unpack(saved["transfer"]["ids"], checkpoint).tokens[field]
    return dict(zip(names, saved["state_dict"][parameter]))


@pytest.mark.parametrize("model", ["BPR", "LightGCN", "MultiVAE", "SASRec", "DeepFM"])
def test_grown_data_continue_from_the_old_rows(make_dataset, model):
    dataset = make_dataset()
    keys = {} if model == "SASRec" else {"eval_args": {**MODELS[model].get("eval_args", {})}}
    keys = {key: value for key, value in keys.items() if value}
    old = fit(dataset, model, **keys)
    gone = dataset.rows[0][0]

    def change(lines):
        return shuffled(GROWN + [line for line in lines if not line.startswith(f"{gone}\t")])

    rewrite(dataset, change)
    new = fit(dataset, model, start=old, learning_rate=1e-12, weight_decay=0, **keys)
    saved = load_checkpoint(new)
    items = Vocabulary.unpack(saved["transfer"]["ids"], new).tokens["item_id"]
    assert items[-1] == "novelty" and len(items) == 42
    if model in ("BPR", "LightGCN", "SASRec"):
        for entity in ("item",) if model == "SASRec" else ("user", "item"):
            name = f"{entity}_embedding.weight"
            before, after = (rows_of(file, name, f"{entity}_id") for file in (old, new))
            assert {*after} > {*before}
            for token, row in before.items():
                assert torch.allclose(after[token], row, atol=1e-6), token


def test_settings_that_change_the_architecture_are_one_line(make_dataset):
    dataset = make_dataset()
    old = fit(dataset, "BPR")
    rewrite(dataset, lambda lines: GROWN + lines)
    with pytest.raises(DataError, match=r"'user_embedding\.weight' has the shape \(31, 8\)"):
        fit(dataset, "BPR", start=old, embedding_size=4)
    with pytest.raises(DataError, match="is a checkpoint of BPR, but the run trains LightGCN"):
        fit(dataset, "LightGCN", start=old)
    with pytest.raises(ConfigError, match="EASE is solved anew"):
        fit(dataset, "EASE", start=old)


def test_new_rows_start_from_their_profile(shop):  # noqa: F811 - the fixture
    old = fit_shop(shop)
    lines = [f"newcomer\ti{n}\t5\t{n}" for n in (2, 6, 10, 14, 18)]
    with (shop.folder / "tiny.inter").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
    write_tastes(shop.folder / "profiles", "user", {"newcomer": 2})
    rows = {}
    for enabled in (True, False):
        keys = {"kt_enabled": enabled, "kt_weight": 0.0, "kt_entity": "both"}
        keys |= {"profile_allow_leak": True, "learning_rate": 1e-12, "epochs": 2}
        config = shop.config("BPR", eval_step=0, **keys)
        new = train(config, verbose=False, evaluate_test=False, start_from=old)["checkpoint"]
        rows[enabled] = rows_of(new, "user_embedding.weight", "user_id")
    alike = torch.stack([rows[True][f"u{n}"] for n in range(2, 40, 4)]).mean(0)
    others = torch.stack([rows[True][f"u{n}"] for n in range(0, 40, 4)]).mean(0)
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(rows[True]["newcomer"], alike, 0) > cosine(rows[True]["newcomer"], others, 0)
    assert cosine(rows[True]["newcomer"], alike, 0) > 0.8
    assert not torch.allclose(rows[True]["newcomer"], rows[False]["newcomer"])
    assert torch.equal(rows[True]["u1"], rows[False]["u1"])  # nothing else was written


def test_the_command(make_dataset):
    dataset = make_dataset()
    old = fit(dataset, "BPR")
    keys = dataset.settings(kt_enabled=False, epochs=1, eval_args=RANDOM_SPLIT)
    given = [f"--{key}={value}" for key, value in keys.items()]
    command = ["train", "--model=BPR", "--dataset=tiny", *given, f"--from={old}"]
    done = CliRunner().invoke(main, [*command, f"--resume={old}"])
    assert done.exit_code == 2 and "exclude each other" in done.output
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "Checkpoint: " in done.output and old not in done.output.split("Checkpoint: ")[1]
