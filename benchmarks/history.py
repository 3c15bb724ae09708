"""Seconds and memory from the atomic files to the prompts of users, for ever more interactions.

    python benchmarks/history.py [--interactions 1000000,10000000] [--stock 10000000]

Random interactions with a time, 100 a user in the mean, popular items oftener; 100,000 items with
titles; RecBole's default split. For each number of interactions one process makes all that
``llmkt profile`` knows before it asks a language model, and a thousand prompts; another one, up to
``--stock`` interactions, builds RecBole's training part with RecBole alone.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import resource
import tempfile
import time
import warnings
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from processes import counts, figures_of
from recbole.data import create_dataset
from recbole.utils import init_seed
from tabulate import tabulate

from recbole_llmkt.config import Config
from recbole_llmkt.datasets.splits import training_split
from recbole_llmkt.profiles.generation import requests
from recbole_llmkt.utils.types import Dataset

PER_USER, ITEMS, PROMPTS = 100, 100_000, 1000
BLOCK = 1_000_000  # interactions written at once


def write_data(folder: Path, interactions: int) -> None:
    """Write the interactions in the order of time, and the items' titles."""
    home = folder / "many"
    home.mkdir()
    rng = np.random.default_rng(0)
    users = max(1, interactions // PER_USER)
    with open(home / "many.inter", "w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for start in range(0, interactions, BLOCK):
            size = min(BLOCK, interactions - start)
            columns = rng.integers(users, size=size), (rng.random(size) ** 3 * ITEMS).astype(int)
            times = range(1_500_000_000 + start, 1_500_000_000 + start + size)
            rows = zip(columns[0].tolist(), columns[1].tolist(), times)
            file.write("".join(map("u%d\ti%d\t%d\n".__mod__, rows)))
    with open(home / "many.item", "w") as file:
        file.write("item_id:token\ttitle:token_seq\tclass:token_seq\n")
        file.writelines(
            f"i{item}\tThe title of item {item}\tkind{item % 20}\n" for item in range(ITEMS)
        )


def configure(folder: str) -> Config:
    """Return the configuration of a run."""
    keys = {
        "data_path": folder,
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "profile_generator": "openai",
        "profile_model": "any",
        "show_progress": False,
        "gpu_id": "",
    }
    return Config("BPR", "many", config_dict=keys, command_line=[])


def measure(step: str, folder: str) -> dict[str, float]:
    """Take a step, and return the figures of this process."""
    config = configure(folder)
    start, clock = time.process_time(), time.monotonic()
    figures = {}
    if step == "stock":
        importlib.import_module("recbole_llmkt.compat")
        init_seed(config["seed"], config["reproducibility"])
        create_dataset(config).build()
    else:

        def split(config: Config) -> Dataset:
            dataset = training_split(config)
            figures["split"] = time.process_time() - start
            return dataset

        with patch.object(requests, "training_split", split):
            maker = requests.RequestMaker(config, "user")
        ready = time.process_time()
        tokens = list(maker.digests)
        tokens = tokens[:: -(-len(tokens) // PROMPTS)]
        for token in tokens:
            maker(token)
        figures["prompt"] = 1000 * (time.process_time() - ready) / len(tokens)
    return {
        **figures,
        "seconds": time.process_time() - start,
        "clock": time.monotonic() - clock,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def main() -> None:
    """Print a table with a line for each number of interactions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interactions", type=counts, default="1000000,10000000")
    parser.add_argument("--stock", type=int, default=10_000_000)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        print(json.dumps(measure(*options.measure)))
        return
    lines = []
    for interactions in options.interactions:
        stock: dict[str, float] = {}
        with tempfile.TemporaryDirectory() as folder:
            write_data(Path(folder), interactions)
            if interactions <= options.stock:
                stock = figures_of(__file__, "stock", folder)
            ours = figures_of(__file__, "prompts", folder)
        line = [f"{interactions:,}", stock.get("seconds"), stock.get("peak")]
        lines.append([*line, *(ours[key] for key in ("split", "seconds", "peak", "prompt"))])
    headers = ["interactions", "RecBole (s)", "RecBole (GB)", "split (s)", "all (s)", "all (GB)"]
    headers += ["a prompt (ms)"]
    floats = ("", ".0f", ".2f", ".0f", ".0f", ".2f", ".1f")
    print(tabulate(lines, headers, tablefmt="github", floatfmt=floats, missingval="-"))


if __name__ == "__main__":
    main()
