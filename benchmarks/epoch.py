"""Seconds of a training epoch on MovieLens-100K, without and with transfer, on a GPU if any.

python benchmarks/epoch.py [MODEL ...]
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import tempfile
import time
import warnings

import torch
from recbole.utils import init_seed
from tabulate import tabulate
from tqdm import tqdm

from recbole_llmkt.compat import create_dataset, data_preparation
from recbole_llmkt.config import Config
from recbole_llmkt.training.factory import get_trainer

MODELS = ("BPR", "NeuMF", "SimpleX", "MultiVAE", "LightGCN")
EPOCHS = 3
ROUNDS = 3


def seconds_per_epoch(model: str, kt_enabled: bool) -> float:
    """Train a few epochs, all of them in phase 1; return the time of one."""
    settings = {"kt_enabled": kt_enabled, "kt_epochs": EPOCHS, "epochs": EPOCHS}
    if model == "MultiVAE":
        settings["train_neg_sample_args"] = None
    config = Config(model, "ml-100k", config_dict=settings, command_line=[])
    init_seed(config["seed"], True)
    dataset = create_dataset(config)
    train_data, *_ = data_preparation(config, dataset)
    network = config.model_class(config, train_data._dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], model)(config, network)
    started = time.perf_counter()
    trainer.fit(train_data, saved=False, verbose=False)
    return (time.perf_counter() - started) / EPOCHS


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # RecBole writes its logs into the current folder
        for name in tqdm(sys.argv[1:] or MODELS):
            seconds_per_epoch(name, kt_enabled=True)  # what is slow once: a GPU's start, caches
            turns = [
                [seconds_per_epoch(name, enabled) for enabled in (False, True)]
                for _ in range(ROUNDS)
            ]
            base, transfer = map(statistics.median, zip(*turns))
            rows.append([name, base, transfer, f"{transfer / base - 1:+.0%}"])
        os.chdir("/")
    gpu = torch.cuda.is_available()
    print(f"PyTorch {torch.__version__} on {torch.cuda.get_device_name() if gpu else 'one core'}")
    headers = ["model", "base (s)", "kt (s, the set-up shared by the epochs)", "more"]
    print(tabulate(rows, headers, floatfmt=".2f"))
