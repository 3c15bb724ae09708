"""Seconds of preparation, milliseconds of a step and memory, for ever more users.

    python benchmarks/users.py [--users 10000,100000,1000000] [--pairs 15]

BPR, 64 wide, on random interactions (four a user, 20,000 items); every user has a profile whose
vector is 64 wide, in float16. For each number of users one process trains without profiles and
another one with a transfer loss. Steps with and without take turns in the latter, and ``more`` is
the median of their differences in the processor's time.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import psutil
import torch
from recbole.data.interaction import Interaction
from recbole.utils import init_seed
from tabulate import tabulate
from torch import nn

from recbole_llmkt.config import Config
from recbole_llmkt.datasets.loading import load_data
from recbole_llmkt.profiles.embeddings import embedding_paths, text_digest
from recbole_llmkt.profiles.loading import RunProfiles
from recbole_llmkt.training.factory import build_model
from recbole_llmkt.transfer.auxiliary.task import TransferTask
from recbole_llmkt.transfer.context import RunContext
from recbole_llmkt.transfer.inspection.probe import make_batch, recommendation_loss

WIDTH, PER_USER, ITEMS, BATCH = 64, 4, 20_000, 2048
ENCODER = "random"
REST = '"generator": "random", "model": "", "prompt": "", "history": null, "time": "2026-01-01"'
BLOCK = 100_000  # users written at once


def write_data(folder: Path, users: int) -> None:
    """Write interactions, profiles and their vectors."""
    home = folder / "many"
    vectors_path, ids_path = embedding_paths(home / "profiles", ENCODER, "user")
    vectors_path.parent.mkdir(parents=True)
    rng = np.random.default_rng(0)
    vectors = np.lib.format.open_memmap(vectors_path, "w+", np.float16, (users, WIDTH))
    digests: list[str] = []
    with (
        open(home / "many.inter", "w") as interactions,
        open(home / "profiles" / "user.jsonl", "w") as profiles,
    ):
        interactions.write("user_id:token\titem_id:token\n")
        for start in range(0, users, BLOCK):
            block = range(start, min(start + BLOCK, users))
            items = rng.integers(ITEMS, size=(len(block), PER_USER)).tolist()
            interactions.write(
                "".join(f"u{u}\ti{item}\n" for u, row in zip(block, items) for item in row)
            )
            texts = [f"Likes what is like i{row[0]}." for row in items]
            digests += map(text_digest, texts)
            profiles.writelines(
                f'{{"id": "u{u}", "text": "{text}", {REST}}}\n' for u, text in zip(block, texts)
            )
            vectors[start : block.stop] = rng.standard_normal((len(block), WIDTH))
    vectors.flush()
    ids = [f"u{user}" for user in range(users)]
    header = {"encoder": ENCODER, "dim": WIDTH, "ids": ids, "texts": digests}
    ids_path.write_text(json.dumps(header))


def configure(folder: str, with_profiles: bool) -> Config:
    """Return the configuration of a run."""
    keys = {
        "data_path": folder,
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "load_col": {"inter": ["user_id", "item_id"]},
        "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "RO", "mode": "full"},
        "embedding_size": WIDTH,
        "train_batch_size": BATCH,
        "kt_enabled": with_profiles,
        "kt_transform": "none",
        "profile_encoder": ENCODER,
        "show_progress": False,
        "gpu_id": "",
    }
    return Config("BPR", "many", config_dict=keys, command_line=[])


def milliseconds(
    network: nn.Module, task: TransferTask | None, batch: Interaction, pairs: int
) -> tuple[float, float]:
    """Return what a plain step takes, and how much more one with transfer."""
    optimizer = torch.optim.Adam(network.parameters())
    network.train()

    def step() -> float:
        compute = recommendation_loss(network)
        start = time.process_time()
        optimizer.zero_grad()
        compute(batch).backward()
        optimizer.step()
        return time.process_time() - start

    def with_transfer() -> float:
        if task is None:
            return step()
        with task.attached():
            return step()

    step(), with_transfer()
    times = [(step(), with_transfer()) for _ in range(pairs)]
    more = statistics.median(transfer - plain for plain, transfer in times)
    return 1000 * statistics.median(plain for plain, _ in times), 1000 * more


def measure(folder: str, with_profiles: bool, pairs: int) -> dict[str, float]:
    """Prepare a run, make steps, and return the figures of this process."""
    config = configure(folder, with_profiles)
    init_seed(config["seed"], config["reproducibility"])
    train_data = load_data(config)[1]
    loaded = time.process_time()
    profiles = RunProfiles(config, train_data._dataset)
    network = build_model(config, train_data._dataset, profiles=profiles)
    task = None
    if with_profiles:
        task = TransferTask(RunContext(config, network, train_data, profiles))
    prepared = time.process_time()
    plain, more = milliseconds(network, task, make_batch(train_data, BATCH), pairs)
    return {
        "load": loaded,
        "prepare": prepared - loaded,
        "plain": plain,
        "more": more,
        "now": psutil.Process().memory_info().rss / 1e6,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def in_a_process(folder: str, with_profiles: bool, pairs: int) -> dict[str, float]:
    """Return the figures of a process of its own: memory that was used once may stay."""
    arguments = [folder, str(int(with_profiles)), str(pairs)]
    done = subprocess.run(
        [sys.executable, __file__, "--measure", *arguments], check=True, stdout=subprocess.PIPE
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def counts(text: str) -> list[int]:
    """Read numbers of users, each of 1 or more, with commas between them."""
    numbers = [int(part) for part in text.split(",")]
    if min(numbers) < 1:
        raise ValueError(text)
    return numbers


def main() -> None:
    """Print a table with a line for each number of users."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=counts, default="10000,100000,1000000")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        torch.set_num_threads(1)
        folder, with_profiles, pairs = options.measure
        print(json.dumps(measure(folder, with_profiles == "1", int(pairs))))
        return
    if options.pairs < 1:
        parser.error("--pairs: at least 1")
    lines = []
    for users in options.users:
        with tempfile.TemporaryDirectory() as folder:
            write_data(Path(folder), users)
            base = in_a_process(folder, False, 1)
            transfer = in_a_process(folder, True, options.pairs)
        more = [(transfer[key] - base[key]) for key in ("now", "peak")]
        times = [base["load"], transfer["prepare"], transfer["plain"], transfer["more"]]
        lines.append([users, *times, base["now"], *more, base["peak"]])
    headers = ["users", "data (s)", "profiles (s)", "step (ms)", "more (ms)", "memory (MB)"]
    headers += ["more (MB)", "more at the peak (MB)", "peak without (MB)"]
    print(tabulate(lines, headers, tablefmt="github", floatfmt=("", ".1f", ".1f", ".2f", ".2f")))


if __name__ == "__main__":
    main()
