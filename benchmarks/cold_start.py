"""What kt_cold_start is worth: a tenth of MovieLens-100K's users, or of its items, made cold.

python benchmarks/cold_start.py [--entity=item] [--models=BPR,NeuMF] [--seeds=1,2]
                                [--output=FILE.jsonl]

Users: the training interactions of a random tenth are taken from what the recommender sees, but for
0 to 3 each; their profiles, written from all of them, are kept. That simulates users who told their
tastes elsewhere. Test: the ranking of all items that they had not rated in training, for these
users only. Items: those of a random tenth have no training interaction left. Test: the ranking of
these items alone, by the users who rate one in the test part. One training serves all arms, since
kt_cold_start works after it.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from recbole.utils import init_seed
from tabulate import tabulate
from tqdm import tqdm

from recbole_llmkt.compat import create_dataset, data_preparation
from recbole_llmkt.config import Config
from recbole_llmkt.training.factory import get_trainer
from recbole_llmkt.transfer.context import RunContext
from recbole_llmkt.transfer.methods.cold_start import ColdStart

# A context-aware model, trained and tested as the others are.
RANKED: dict[str, Any] = {
    "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1},
    "eval_args": {
        "split": {"RS": [0.7, 0.1, 0.2]},
        "order": "TO",
        "group_by": "user",
        "mode": "full",
    },
}
MODELS: dict[str, dict[str, Any]] = {
    "BPR": {"epochs": 30, "weight_decay": 1e-5},
    "NeuMF": {"epochs": 15, "weight_decay": 1e-5},
    "LightGCN": {"epochs": 20, "train_batch_size": 8192, "learning_rate": 0.02},
    "SimpleX": {
        "epochs": 8,
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": 10},
    },
    "FM": {"epochs": 15, "weight_decay": 1e-5, "embedding_size": 64, **RANKED},
}
# Chosen beforehand, not tuned: all arms share the training.
COMMON: dict[str, Any] = {
    "learning_rate": 0.005,
    "eval_batch_size": 400_000,
    "metrics": ["NDCG", "Recall"],
    "topk": [10],
    "valid_metric": "NDCG@10",
    "show_progress": False,
    "profile_allow_leak": True,
    "kt_weight": 0,
    "kt_cold_start": True,
}
COLD_SHARE = 0.1
MOST_KEPT = {"user": 3, "item": 0}  # interactions of a cold one
METRICS = ("ndcg@10", "recall@10")
# Arm: its control of the profiles; None is the trained embedding as it is.
ARMS = {"trained": None, "cold start": "none", "shuffled profiles": "shuffled"}


def hold_out(parts: list[Any], entity: str, seed: int) -> tuple[Any, Any, npt.NDArray[np.bool_]]:
    """Return the reduced training part, the test part of the cold ones, and who they are."""
    train, _, test = parts
    field = train.uid_field if entity == "user" else train.iid_field
    rng = np.random.default_rng(seed)
    n = train.num(field)
    is_cold = np.zeros(n, dtype=bool)
    chosen = rng.permutation(n - 1)[: round(COLD_SHARE * n)] + 1
    is_cold[chosen] = True
    ids = train.inter_feat[field].numpy()
    keep = ~is_cold[ids]
    for cold in chosen:
        rows = np.flatnonzero(ids == cold)
        keep[rng.permutation(rows)[: rng.integers(MOST_KEPT[entity] + 1)]] = True
    tested = is_cold[test.inter_feat[field].numpy()]
    return (
        train.copy(train.inter_feat[torch.from_numpy(keep)]),
        test.copy(test.inter_feat[torch.from_numpy(tested)]),
        is_cold,
    )


def rank_alone(test_data: Any, items: npt.NDArray[np.bool_]) -> None:
    """Let the test rank some items only, by masking the others like those of the history."""
    others = torch.from_numpy(np.flatnonzero(~items)[1:])  # without the padding id
    for user in test_data.uid_list.tolist():
        known = test_data.uid2history_item[user]
        test_data.uid2history_item[user] = torch.cat([known, others]).unique()


def loaders(config: Config, dataset: Any, parts: list[Any]) -> tuple[Any, Any, Any]:
    """Make RecBole's loaders of a split that was changed."""
    dataset = copy.copy(dataset)
    dataset.build = lambda: parts
    made: tuple[Any, Any, Any] = data_preparation(config, dataset)
    return made


def run(model: str, entity: str, seed: int) -> Iterator[dict[str, Any]]:
    """Train once, then test the cold ones in every arm."""
    started = time.perf_counter()
    settings = {**COMMON, **MODELS[model], "seed": seed, "kt_entity": entity}
    settings["kt_cold_threshold"] = MOST_KEPT[entity]
    config = Config(model, "ml-100k", config_dict=settings, command_line=[])
    init_seed(seed, True)
    dataset = create_dataset(config)
    parts = dataset.build()
    reduced, tested, is_cold = hold_out(parts, entity, seed)
    # The test masks what the users had rated before, be it taken from the training or not.
    _, _, test_data = loaders(config, dataset, [parts[0], parts[1], tested])
    if entity == "item":
        rank_alone(test_data, is_cold)
    train_data, _, _ = loaders(config, dataset, [reduced, parts[1], tested])
    init_seed(seed, True)
    network = config.model_class(config, train_data._dataset).to(config["device"])
    off = Config(model, "ml-100k", config_dict={**settings, "kt_enabled": False}, command_line=[])
    trainer = get_trainer(config["MODEL_TYPE"], model)(off, network)
    trainer.fit(train_data, saved=False, verbose=False)
    trained = copy.deepcopy(network.state_dict())
    for arm, control in ARMS.items():
        network.load_state_dict(trained)
        if control is not None:
            config["kt_control"] = control
            cold_start = ColdStart(config)
            cold_start.prepare(RunContext(config, network, train_data))
            cold_start.fill_model(network)
        result = trainer.evaluate(test_data, load_best_model=False)
        yield {
            "model": model,
            "entity": entity,
            "arm": arm,
            "seed": seed,
            **{name: float(result[name]) for name in METRICS},
            "cold": int(is_cold.sum()),
            "seconds": time.perf_counter() - started,
            "settings": settings,
        }


def table(records: list[dict[str, Any]]) -> str:
    """Show the mean over seeds, and the gain over the trained embedding."""
    rows = []
    for model in dict.fromkeys(record["model"] for record in records):
        means = {
            arm: [
                np.mean([r[name] for r in records if (r["model"], r["arm"]) == (model, arm)])
                for name in METRICS
            ]
            for arm in ARMS
        }
        base = means["trained"]
        for arm, values in means.items():
            gains = [f"{value / before - 1:+.1%}" for value, before in zip(values, base)]
            rows.append([model, arm, *(x for pair in zip(values, gains) for x in pair)])
    headers = ["model", "rows of the cold", "NDCG@10", "gain", "Recall@10", "gain"]
    return tabulate(rows, headers, floatfmt=".4f")


@click.command()
@click.option("--models", default=",".join(MODELS), show_default=True)
@click.option("--seeds", default="1,2", show_default=True)
@click.option("--entity", type=click.Choice(["user", "item"]), default="user", show_default=True)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="File that raw results are appended to, as JSONL.",
)
def main(models: str, seeds: str, entity: str, output: Path | None) -> None:
    """Measure held-out cold users or items with and without kt_cold_start."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    output = output.absolute() if output else None
    unknown = [model for model in models.split(",") if model not in MODELS]
    if unknown:
        raise click.BadParameter(f"--models: {unknown[0]}: there are {', '.join(MODELS)}.")
    if not all(seed.isdecimal() for seed in seeds.split(",")):
        raise click.BadParameter(f"--seeds: {seeds}: numbers, like 1,2.")
    runs = [(model, int(seed)) for model in models.split(",") for seed in seeds.split(",")]
    records = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # RecBole writes its logs into the current folder
        for model, seed in tqdm(runs):
            for record in run(model, entity, seed):
                records.append(record)
                if output:
                    with output.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(record) + "\n")
        os.chdir("/")
    click.echo(table(records))


if __name__ == "__main__":
    main()
