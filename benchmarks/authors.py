"""Processor time of a training run beside the LLM-KT authors' code, paired in one process.

    python benchmarks/authors.py CHECKOUT/knowledge_transfer_framework [--epochs=4] [--pairs=3]

CHECKOUT is a clone of the code of arXiv 2411.00556, which wraps RecBole's models and trains them
with RecBole's trainer. Both train the same model on the same data, half of the epochs with a loss
at the same layer, then without, and validate after every epoch. Theirs reads its targets from a
file of tensors, ours makes them from the profiles.
"""

from __future__ import annotations

import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click
import torch
from recbole.data import create_dataset as stock_dataset
from recbole.data import data_preparation as stock_preparation
from recbole.trainer import Trainer
from tabulate import tabulate

from recbole_llmkt.compat import create_dataset, data_preparation, pandas_data
from recbole_llmkt.config import Config
from recbole_llmkt.profiles.loading import RunProfiles
from recbole_llmkt.training.factory import build_model, get_trainer

# Their loss, the layer that it reads, and ours at the same place.
MODELS = {
    "NeuMF": ("NeumfUserRMSE", "mlp_layers", "mlp_layers"),
    "SimpleX": ("SimpleXUserRMSE", "dropout", "dropout@input"),
    "MultiVAE": ("MultiVAEUserRMSE", "decoder", "decoder@input"),
}
WIDTH = 64  # of these layers, by default


def settings(model: str, epochs: int) -> dict[str, Any]:
    """Return the run's keys."""
    return {
        "epochs": epochs,
        "kt_epochs": 0.5,
        "kt_layer": MODELS[model][2],
        "kt_weight": 0.5,
        "kt_entity": "user",
        "profile_allow_leak": True,
        "train_batch_size": 512 if model == "MultiVAE" else 2048,
        "eval_batch_size": 2_000_000 if model != "NeuMF" else 50_000,
        "show_progress": False,
        "state": "ERROR",
        "stopping_step": 1000,
        "distil_loss_weight": 0.5,
        "kt_strict_keys": False,
        "kt_fast_ranking": True,
        **({"train_neg_sample_args": None} if model == "MultiVAE" else {}),
    }


def theirs(
    framework: Any, model: str, config: Config, data: tuple[Any, ...], targets: Path
) -> float:
    """Train with the authors' wrapper and RecBole's trainer; return the seconds."""
    loss, layer, _ = MODELS[model]
    config.final_config_dict["llm_config"] = {
        "embeddings_path": str(targets.parent.parent),
        "default_items_emb_file": targets.name,
        "use_user_emb": True,
        "use_item_emb": False,
        "users_start_with_1": True,
    }
    train_data, valid_data = data
    begin = time.process_time()
    network = build_model(config, train_data._dataset)
    network.config, network.dataset = config, train_data._dataset
    wrapper = framework.GeneralModelWrapper(network, loss, targets.name)
    wrapper.distil_loss.set_particular(True)
    wrapper._travers_model_struc()
    places = {id(module): number for number, module in wrapper.model_struc.items()}
    wrapper.set_hidden_output([places[id(network.get_submodule(layer))]])
    epochs = int(config["epochs"])
    for _ in range(2):
        config.final_config_dict["epochs"] = epochs // 2
        trainer = Trainer(config, wrapper)
        trainer.fit(train_data, valid_data, verbose=False, saved=False, show_progress=False)
        wrapper.remove_hidden_output()
    config.final_config_dict["epochs"] = epochs
    return time.process_time() - begin


def ours(config: Config, data: tuple[Any, ...]) -> float:
    """Train with this package; return the seconds."""
    train_data, valid_data = data
    begin = time.process_time()
    profiles = RunProfiles(config, train_data._dataset)
    network = build_model(config, train_data._dataset, profiles=profiles)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, network)
    trainer.run_profiles, trainer.has_weights = profiles, False
    trainer.before_training = lambda: None
    trainer.fit(train_data, valid_data, verbose=False, saved=False, show_progress=False)
    return time.process_time() - begin


def quietly(work: Callable[..., float], *arguments: Any) -> float:
    """Call a function without what it prints."""
    with redirect_stdout(io.StringIO()):
        return work(*arguments)


@click.command()
@click.argument("code", type=click.Path(exists=True, file_okay=False))
@click.option("--models", default="NeuMF,SimpleX,MultiVAE", show_default=True)
@click.option("--epochs", default=4, show_default=True, type=click.IntRange(2), help="Even.")
@click.option("--pairs", default=3, show_default=True, type=click.IntRange(1))
def main(code: str, models: str, epochs: int, pairs: int) -> None:
    """Compare with the authors' code in the folder CODE."""
    unknown = [model for model in models.split(",") if model not in MODELS]
    if unknown:
        raise click.BadParameter(f"--models: {unknown[0]}: there are {', '.join(MODELS)}.")
    if epochs % 2:
        raise click.BadParameter(f"--epochs: {epochs}: an even number, for two phases.")
    if not Path(code, "utils", "gen_wrapper.py").is_file():
        raise click.BadParameter(f"CODE: '{code}' has no utils/gen_wrapper.py: give their folder.")
    sys.path.insert(0, code)
    sys.modules.pop("models", None)
    from utils import gen_wrapper  # theirs

    rows = []
    for model in models.split(","):
        config = Config(model, "ml-100k", config_dict=settings(model, epochs), command_line=[])
        data = data_preparation(config, create_dataset(config))[:2]
        with pandas_data():  # the same batches, from RecBole's own loaders, as their code has them
            stock = stock_preparation(config, stock_dataset(config))[:2]
        with tempfile.TemporaryDirectory() as folder:
            targets = Path(folder, "ml-100k", "targets.pt")
            targets.parent.mkdir()
            torch.save(torch.randn(data[0]._dataset.user_num - 1, WIDTH), targets)
            seconds = [
                (quietly(theirs, gen_wrapper, model, config, stock, targets), ours(config, data))
                for _ in range(pairs)
            ]
        ratio = statistics.median(slow / quick for slow, quick in seconds)
        rows.append([model, *map(statistics.median, zip(*seconds)), ratio])
    header = ["model", "theirs (s)", "ours (s)", "theirs over ours"]
    print(tabulate(rows, header, floatfmt=".2f", tablefmt="github"))


if __name__ == "__main__":
    main()
