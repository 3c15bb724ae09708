"""What a comparison costs beyond its trainings.

    python benchmarks/comparison.py [--epochs 20] [--rounds 1]

Three arms x three seeds of BPR on MovieLens-100K, once by ``compare`` with one run at a time, and
once as nine trainings, one after the other, in a process that has imported everything and trained
before. Both count the processor's time, that of ``compare`` with all its processes and their
imports.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil
import torch
from tabulate import tabulate

from recbole_llmkt.experiment.runs.compare import compare
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.quick_start import train

ARMS, SEEDS = ("base", "kt", "shuffled"), (1, 2, 3)


def plan(epochs: int) -> Plan:
    """Return the comparison."""
    keys = {"epochs": epochs, "stopping_step": epochs, "gpu_id": "", "show_progress": False}
    return Plan(["BPR"], ARMS, SEEDS, "ml-100k", overrides=keys)


def processor_seconds() -> float:
    """Return what this process and all that it started have used."""
    this = psutil.Process()
    used = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(
        times.user + times.system + times.children_user + times.children_system for times in used
    )


def measure(way: str, epochs: int) -> float:
    """Return the processor's seconds of nine trainings, in this process or by ``compare``."""
    if way == "compare":
        start = processor_seconds()
        compare(plan(epochs), Path("out"), jobs=1)
        return processor_seconds() - start
    runs = plan(epochs).runs()
    train(plan(2).runs()[1].config(), verbose=False)
    start = time.process_time()
    for run in runs:
        train(run.config())
    return time.process_time() - start


def main() -> None:
    """Print both and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--measure", choices=["compare", "bare"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.epochs < 1 or options.rounds < 1:
        parser.error("--epochs and --rounds: at least 1")
    if options.measure:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        torch.set_num_threads(1)
        print(json.dumps(measure(options.measure, options.epochs)))
        return
    rounds = []
    for _ in range(options.rounds):
        seconds = []
        for way in ("bare", "compare"):
            arguments = ["--measure", way, "--epochs", str(options.epochs)]
            with tempfile.TemporaryDirectory() as folder:
                done = subprocess.run(
                    [sys.executable, str(Path(__file__).resolve()), *arguments],
                    cwd=folder,
                    check=True,
                    stdout=subprocess.PIPE,
                )
            seconds.append(float(done.stdout.splitlines()[-1]))
        rounds.append(seconds)
    bare, compared = (statistics.median(column) for column in zip(*rounds))
    ratio = statistics.median(compared / bare for bare, compared in rounds)
    headers = ["epochs", "nine trainings (s)", "compare (s)", "ratio"]
    print(tabulate([[options.epochs, bare, compared, ratio]], headers, tablefmt="github"))


if __name__ == "__main__":
    main()
