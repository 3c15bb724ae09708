"""Seconds and memory from the atomic files to the prompts of users, for ever more interactions.

    python benchmarks/history.py [--interactions 1000000,10000000] [--stock 10000000]

Random interactions with a time, 100 a user in the mean, popular items oftener; 100,000 items with
titles; RecBole's default split. For each number of interactions one process builds RecBole's
training part with RecBole alone (up to ``--stock`` interactions), one as ``llmkt profile`` does,
and one all that ``llmkt profile`` knows before it asks a language model, and a thousand prompts.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from recbole.data import create_dataset
from recbole.utils import init_seed
from tabulate import tabulate

from recbole_llmkt.config import Config
from recbole_llmkt.datasets.splits import training_split
from recbole_llmkt.profiles.generation.requests import RequestMaker

PER_USER, ITEMS, PROMPTS = 100, 100_000, 1000
BLOCK = 1_000_000  # interactions written at once
STEPS = ("stock", "split", "prompts")


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
    elif step == "split":
        training_split(config)
    else:
        requests = RequestMaker(config, "user")
        ready = time.process_time()
        tokens = list(requests.digests)
        tokens = tokens[:: -(-len(tokens) // PROMPTS)]
        for token in tokens:
            requests(token)
        figures["prompt"] = 1000 * (time.process_time() - ready) / len(tokens)
    return {
        **figures,
        "seconds": time.process_time() - start,
        "clock": time.monotonic() - clock,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def in_a_process(step: str, folder: str) -> dict[str, float]:
    """Return the figures of a process of its own: its peak is that of the step."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", step, folder], check=True, stdout=subprocess.PIPE
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def counts(text: str) -> list[int]:
    """Read numbers of interactions, each of 1 or more, with commas between them."""
    numbers = [int(part) for part in text.split(",")]
    if min(numbers) < 1:
        raise ValueError(text)
    return numbers


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
        steps = STEPS if interactions <= options.stock else STEPS[1:]
        with tempfile.TemporaryDirectory() as folder:
            write_data(Path(folder), interactions)
            figures = {step: in_a_process(step, folder) for step in steps}
        line: list[float | str] = [f"{interactions:,}"]
        for step in STEPS:
            known = figures.get(step, {})
            line += [known.get("seconds", "-"), known.get("peak", "-")]
        lines.append([*line, figures["prompts"]["clock"], figures["prompts"]["prompt"]])
    headers = ["interactions", "RecBole (s)", "(GB)", "split (s)", "(GB)", "all (s)", "(GB)"]
    headers += ["all, by the clock (s)", "a prompt (ms)"]
    print(tabulate(lines, headers, tablefmt="github", floatfmt=("", *(".2f",) * 8)))


if __name__ == "__main__":
    main()
