"""Seconds of preparation, milliseconds of a step and memory, for ever more users.

    python benchmarks/users.py [--users 10000,100000,1000000] [--width 64] [--figure users.png]

BPR on random interactions (four a user, 20,000 items); every user has a profile whose vector is as
wide as the model's tables, in float16. For each number of users one process trains without
profiles and another one with a transfer loss. Steps with and without take turns in the latter, and
``ratio`` is the median of theirs, in the processor's time.

RecBole's optimizer and its gradients pass over all users in every step, which hides what a loss of
2048 rows takes. ``pass`` is therefore the forward and the backward pass alone, with gradients that
hold the batch's rows only, and ``more`` the median of what profiles add to it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import psutil
import torch
from processes import counts, figures_of
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

PER_USER, ITEMS, BATCH = 4, 20_000, 2048
ENCODER = "random"
REST = '"generator": "random", "model": "", "prompt": "", "history": null, "time": "2026-01-01"'
BLOCK = 100_000  # users written at once
PASSES = 20  # passes for each whole step
Pair = tuple[float, float]
TIMES = ("prepare", "step", "ratio", "pass", "more")
HEADERS = ["users", "data (s)", "profiles (s)", "step (ms)", "ratio", "pass (ms)", "more (ms)"]
HEADERS += ["memory (MB)", "more (MB)", "peak (MB)", "more at the peak (MB)"]


def write_data(folder: Path, users: int, width: int) -> None:
    """Write interactions, profiles and their vectors."""
    home = folder / "many"
    vectors_path, ids_path = embedding_paths(home / "profiles", ENCODER, "user")
    vectors_path.parent.mkdir(parents=True)
    rng = np.random.default_rng(0)
    vectors = np.lib.format.open_memmap(vectors_path, "w+", np.float16, (users, width))
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
            vectors[start : block.stop] = rng.standard_normal((len(block), width))
    vectors.flush()
    ids = [f"u{user}" for user in range(users)]
    header = {"encoder": ENCODER, "dim": width, "ids": ids, "texts": digests}
    ids_path.write_text(json.dumps(header))


def configure(folder: str, with_profiles: bool, width: int) -> Config:
    """Return the configuration of a run."""
    keys = {
        "data_path": folder,
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "load_col": {"inter": ["user_id", "item_id"]},
        "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "RO", "mode": "full"},
        "embedding_size": width,
        "train_batch_size": BATCH,
        "kt_enabled": with_profiles,
        "kt_transform": "none",
        "profile_encoder": ENCODER,
        "show_progress": False,
        "gpu_id": "",
    }
    return Config("BPR", "many", config_dict=keys, command_line=[])


def in_turn(task: TransferTask | None, step: Callable[[], float], pairs: int) -> list[Pair]:
    """Return the seconds of steps without and with transfer, which take turns."""

    def with_transfer() -> float:
        if task is None:
            return step()
        with task.attached():
            return step()

    step(), with_transfer()
    return [(step(), with_transfer()) for _ in range(pairs)]


def whole_steps(
    network: nn.Module, task: TransferTask | None, batch: Interaction, pairs: int
) -> list[Pair]:
    """Return the seconds of RecBole's steps, the optimizer's included."""
    optimizer = torch.optim.Adam(network.parameters())

    def step() -> float:
        compute = recommendation_loss(network)
        start = time.process_time()
        optimizer.zero_grad()
        compute(batch).backward()
        optimizer.step()
        return time.process_time() - start

    return in_turn(task, step, pairs)


def passes(
    network: nn.Module, task: TransferTask | None, batch: Interaction, pairs: int
) -> list[Pair]:
    """Return the seconds of forward and backward passes over the batch's rows alone."""
    for module in network.modules():
        if isinstance(module, nn.Embedding):
            module.sparse = True

    def step() -> float:
        network.zero_grad(set_to_none=True)
        compute = recommendation_loss(network)
        start = time.process_time()
        compute(batch).backward()
        return time.process_time() - start

    return in_turn(task, step, pairs)


def measure(folder: str, with_profiles: bool, pairs: int, width: int) -> dict[str, float]:
    """Prepare a run, make steps, and return the figures of this process."""
    config = configure(folder, with_profiles, width)
    init_seed(config["seed"], config["reproducibility"])
    train_data = load_data(config)[1]
    loaded = time.process_time()
    profiles = RunProfiles(config, train_data._dataset)
    network = build_model(config, train_data._dataset, profiles=profiles)
    task = None
    if with_profiles:
        task = TransferTask(RunContext(config, network, train_data, profiles))
        profiles.forget()  # as the trainer does
    prepared = time.process_time()
    batch = make_batch(train_data, BATCH)
    network.train()
    steps = whole_steps(network, task, batch, pairs)
    figures = {
        "load": loaded,
        "prepare": prepared - loaded,
        "step": 1000 * statistics.median(plain for plain, _ in steps),
        "ratio": statistics.median(transfer / plain for plain, transfer in steps),
        "now": psutil.Process().memory_info().rss / 1e6,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }
    rows_alone = passes(network, task, batch, PASSES * pairs)
    figures["pass"] = 1000 * statistics.median(plain for plain, _ in rows_alone)
    figures["more"] = 1000 * statistics.median(transfer - plain for plain, transfer in rows_alone)
    return figures


def draw(path: str, lines: list[list[float]]) -> None:
    """Draw time and memory over the number of users, with profiles and without."""
    from matplotlib.figure import Figure

    table = dict(zip(HEADERS, zip(*lines)))
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axes, curves, label in zip(
        figure.subplots(1, 3),
        (
            {"without": "pass (ms)", "profiles add": "more (ms)"},
            {"without": "step (ms)"},
            {"without": "memory (MB)", "profiles add": "more (MB)"},
        ),
        ("forward and backward pass (ms)", "whole step (ms)", "memory (MB)"),
    ):
        for name, column in curves.items():
            axes.plot(table["users"], table[column], "o-", label=name)
        if label.startswith("whole"):
            times = [step * ratio for step, ratio in zip(table["step (ms)"], table["ratio"])]
            axes.plot(table["users"], times, "o--", label="with profiles")
        axes.set(xscale="log", xlabel="users", ylabel=label)
        axes.set_yscale("linear" if label.startswith("forward") else "log")
        axes.set_ylim(bottom=0 if label.startswith("forward") else None)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print a table with a line for each number of users."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=counts, default="10000,100000,1000000")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--width", type=int, default=64, help="of the model's tables")
    parser.add_argument("--figure", help="also draw the curves into this file")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        torch.set_num_threads(1)
        folder, with_profiles, pairs, width = options.measure
        print(json.dumps(measure(folder, with_profiles == "1", int(pairs), int(width))))
        return
    if options.pairs < 1 or options.width < 1:
        parser.error("--pairs and --width: at least 1")
    lines, width = [], str(options.width)
    for users in options.users:
        with tempfile.TemporaryDirectory() as folder:
            write_data(Path(folder), users, options.width)
            base = figures_of(__file__, folder, "0", "1", width)
            transfer = figures_of(__file__, folder, "1", str(options.pairs), width)
        more = [(transfer[key] - base[key]) for key in ("now", "peak")]
        times = [base["load"], *(transfer[key] for key in TIMES)]
        lines.append([users, *times, base["now"], more[0], base["peak"], more[1]])
    floats = ("", ".1f", ".1f", ".1f", ".3f", ".2f", ".2f", ".0f", ".0f", ".0f", ".0f")
    print(tabulate(lines, HEADERS, tablefmt="github", floatfmt=floats))
    if options.figure:
        draw(options.figure, lines)


if __name__ == "__main__":
    main()
