"""Seconds of training beside RLMRec's code, paired in one process.

    python benchmarks/rlmrec.py CHECKOUT [--epochs=6] [--pairs=3]

CHECKOUT is a clone of the code of "Representation learning with large language models for
recommendation" (WWW 2024, arXiv 2310.15950). Both train LightGCN with profiles of users and items
contrasted (``kt_preset: rlmrec_con``) on MovieLens-100K, with the same split, embeddings, layers,
batches and epochs, and validate after every third. Vectors are random: their values cost nothing.
"""

from __future__ import annotations

import io
import os
import pickle
import statistics
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from authors import ours
from tabulate import tabulate

from recbole_llmkt.compat import create_dataset, data_preparation
from recbole_llmkt.config import Config
from recbole_llmkt.profiles.loading import RunProfiles

MODEL, DATASET = "lightgcn_plus", "steam"  # theirs; the data are ours under one of their names
BATCH, WIDTH, LAYERS, EVERY = 4096, 32, 3, 3


def settings(epochs: int) -> dict[str, Any]:
    """Return our keys, which are theirs."""
    return {
        "kt_preset": "rlmrec_con",
        "profile_allow_leak": True,
        "epochs": epochs,
        "eval_step": EVERY,
        "stopping_step": 1000,
        "train_batch_size": BATCH,
        "embedding_size": WIDTH,
        "n_layers": LAYERS,
        "learning_rate": 0.001,
        "metrics": ["Recall", "NDCG"],
        "topk": [5, 10, 20],
        "valid_metric": "Recall@20",
        "show_progress": False,
        "state": "ERROR",
    }


def write_data(folder: Path, parts: list[Any], width: int) -> None:
    """Write the matrices and vectors that their code reads."""
    folder.mkdir(parents=True)
    for name, part in zip(("trn", "val", "tst"), parts):
        matrix = part._dataset.inter_matrix(form="coo")
        (folder / f"{name}_mat.pkl").write_bytes(pickle.dumps(matrix))
    dataset = parts[0]._dataset
    rng = np.random.default_rng(0)
    for name, count in (("usr", dataset.user_num), ("itm", dataset.item_num)):
        vectors = rng.standard_normal((count, width)).astype(np.float32)
        (folder / f"{name}_emb_np.pkl").write_bytes(pickle.dumps(vectors))


class Theirs:
    """Their code, which reads its configuration and its data when it is imported."""

    def __init__(self, code: Path, folder: Path, epochs: int) -> None:
        (folder / "encoder").symlink_to(code / "encoder")
        os.chdir(folder)
        sys.path.insert(0, str(code / "encoder"))
        for name in ("models", "trainer", "config", "data_utils"):
            sys.modules.pop(name, None)
        sys.argv = ["", f"--model={MODEL}", f"--dataset={DATASET}", "--device=cpu"]
        torch.Tensor.cuda = lambda self, *_, **__: self  # their model asks for a GPU
        from config.configurator import configs
        from data_utils.build_data_handler import build_data_handler
        from models.bulid_model import build_model as build
        from trainer.trainer import Trainer

        configs["train"] |= {"epoch": epochs, "batch_size": BATCH, "test_step": EVERY}
        configs["train"]["save_model"] = False
        configs["model"] |= {"embedding_size": WIDTH, "layer_num": LAYERS}
        configs["tune"]["enable"] = False
        self._build, self._trainer = build, Trainer
        self._data = build_data_handler()
        self._data.load_data()

    def seconds(self, epochs: int) -> float:
        """Train and validate, and return how long it took."""
        begin = time.perf_counter()
        model = self._build(self._data)
        trainer = self._trainer(self._data, None)
        trainer.create_optimizer(model)
        for epoch in range(epochs):
            trainer.train_epoch(model, epoch)
            if (epoch + 1) % EVERY == 0:
                model.eval()
                trainer.metric.eval(model, self._data.valid_dataloader)
        return time.perf_counter() - begin


@click.command()
@click.argument("code", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--epochs", default=6, show_default=True, type=click.IntRange(1))
@click.option("--pairs", default=3, show_default=True, type=click.IntRange(1))
def main(code: Path, epochs: int, pairs: int) -> None:
    """Compare with RLMRec's code in the folder CODE."""
    if not (code / "encoder" / "models" / "general_cf" / f"{MODEL}.py").is_file():
        raise click.BadParameter(f"CODE: '{code}' has no encoder/: give RLMRec's folder.")
    config = Config("LightGCN", "ml-100k", config_dict=settings(epochs), command_line=[])
    parts = list(data_preparation(config, create_dataset(config)))
    width = RunProfiles(config, parts[0]._dataset).of("item").vectors.shape[1]
    home, seconds = os.getcwd(), []
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder, "data", DATASET), parts, width)
        theirs = Theirs(code.resolve(), Path(folder), epochs)
        for _ in range(pairs):
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                slow = theirs.seconds(epochs)
            os.chdir(home)
            seconds.append((slow, ours(config, tuple(parts[:2]))))
            os.chdir(folder)
        os.chdir(home)
    ratio = statistics.median(slow / quick for slow, quick in seconds)
    rows = [["LightGCN", *map(statistics.median, zip(*seconds)), ratio]]
    header = ["model", "theirs (s)", "ours (s)", "theirs over ours"]
    print(tabulate(rows, header, floatfmt=".2f", tablefmt="github"))


if __name__ == "__main__":
    main()
