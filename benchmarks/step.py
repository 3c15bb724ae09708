"""Time of a training step with transfer over one without, and the fixed cost in milliseconds.

    python benchmarks/step.py [--models BPR,FISM] [--batches 512,2048] [--pairs 15]

A step is zero_grad, loss, gradient and optimizer, as in RecBole's trainer. Blocks of a few steps
with and without transfer take turns on the same model and batch, on one thread, and a ratio is the
median over the pairs: other work on the machine slows both of a pair. What is measured is the
processor's time, which leaves out what others take of it.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from models import KINDS, LIBRARIES, settings
from recbole.data.interaction import Interaction
from tabulate import tabulate
from tqdm import tqdm

from recbole_llmkt.cli.layers import build
from recbole_llmkt.config import Config
from recbole_llmkt.transfer.auxiliary.task import TransferTask
from recbole_llmkt.transfer.context import RunContext
from recbole_llmkt.transfer.inspection.probe import Loss, make_batch, recommendation_loss
from recbole_llmkt.utils.exceptions import LLMKTError

BLOCK_SECONDS = 0.04  # a block is as many steps as take this long, one at least
MODEL_SECONDS = 20  # slow models get fewer pairs, three at least


def measure(model: str, dataset: str, batch_size: int, pairs: int) -> tuple[float, float, float]:
    """Return the ratio of a step, what transfer adds and what a plain step takes, in ms."""
    config = Config(model, dataset, config_dict=settings(model, batch_size), command_line=[])
    network, train_data = build(config)
    if hasattr(network, "e_step"):
        network.e_step()
    task = TransferTask(RunContext(config, network, train_data))
    loader = getattr(train_data, "general_dataloader", train_data)
    batch = make_batch(train_data, min(batch_size, loader.sample_size))
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained)

    def step(compute: Callable[[Interaction], Loss]) -> None:
        optimizer.zero_grad()
        loss = compute(batch)
        loss = sum(part.sum() for part in loss) if isinstance(loss, tuple) else loss
        torch.isnan(loss).item()
        loss.backward()
        optimizer.step()

    def block(steps: int) -> float:
        """Return the median of the seconds that ``steps`` steps take."""
        compute = recommendation_loss(network)  # the trainer, too, looks it up once an epoch
        times = []
        for _ in range(steps):
            start = time.process_time()
            step(compute)
            times.append(time.process_time() - start)
        return statistics.median(times)

    def with_transfer(steps: int) -> float:
        with task.attached():  # once an epoch, so not a part of a step
            return block(steps)

    network.train()
    block(2), with_transfer(2)
    steps = max(1, int(BLOCK_SECONDS / min(block(1) for _ in range(3))))
    results = []
    start = time.perf_counter()
    while len(results) < pairs:
        if len(results) >= 3 and time.perf_counter() - start > MODEL_SECONDS:
            break
        results.append((block(steps), with_transfer(steps)))
    ratio = statistics.median(transfer / base for base, transfer in results)
    more = statistics.median(transfer - base for base, transfer in results)
    return ratio, 1000 * more, 1000 * statistics.median(base for base, _ in results)


def main() -> None:
    """Print a table of all models."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="", help="only these, separated by commas")
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--batches", default="512,2048")
    parser.add_argument("--pairs", type=int, default=15)
    options = parser.parse_args()
    if options.pairs < 1:
        parser.error("--pairs: at least 1")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    names = options.models.split(",") if options.models else " ".join(KINDS.values()).split()
    sizes = [int(size) for size in options.batches.split(",")]
    rows = []
    for name in tqdm(names):
        library = LIBRARIES.get(name)
        if library is None or importlib.util.find_spec(library):
            figures = [measure(name, options.dataset, size, options.pairs) for size in sizes]
            rows.append([name, *(figure for each in figures for figure in each)])
    headers = ["model"]
    for size in sizes:
        headers += [f"ratio at {size}", "more (ms)", "base (ms)"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=("", *(".3f", ".2f", ".1f") * 3)))
    for place, size in enumerate(sizes):
        ratios = [row[1 + 3 * place] for row in rows]
        print(f"Batch {size}: median {statistics.median(ratios):.3f}, worst {max(ratios):.3f}.")


if __name__ == "__main__":
    try:
        main()
    except LLMKTError as error:
        sys.exit(f"Error: {error}")
