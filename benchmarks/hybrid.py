"""Time of a training step with hybrid tables over one without, on random users and items.

    python benchmarks/hybrid.py [--rows 100000] [--width 64] [--batch 2048] [--pairs 25]

The model is matrix factorization with a pairwise loss and Adam, which moves every row in every
step. Steps with and without take turns. ``on demand`` is how a model trains that looks rows up and
no more, ``whole`` one that reads all of them. What an epoch's end costs, where all rows are
written, is in the last column.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor, nn

from recbole_llmkt.profiles.loading import ProfileVectors
from recbole_llmkt.transfer.inspection.tables import EntityTable
from recbole_llmkt.transfer.methods.folded import FoldedParameter, Part, join_optimizers
from recbole_llmkt.transfer.methods.linear_map import LinearMap
from recbole_llmkt.transfer.methods.neighbours import NeighbourMean, Neighbours

FEATURES, NEIGHBOURS, SHARE = 32, 10, 0.5
NO_PROFILES = ProfileVectors("item", np.zeros(0, np.int64), np.zeros((0, 2), np.float32), 1, "", "")
Maker = Callable[[EntityTable, Tensor], Part]


class Factors(nn.Module):
    """Matrix factorization with the loss of BPR."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(rows, width), nn.Embedding(rows, width)

    def forward(self, batch: Tensor) -> Tensor:
        """Return the loss of (user, item, negative item): shape (3, batch)."""
        users, items, negatives = self.users(batch[0]), self.items(batch[1]), self.items(batch[2])
        return -nn.functional.logsigmoid((users * (items - negatives)).sum(1)).mean()


def linear(table: EntityTable, rows: Tensor) -> Part:
    """Make a map of random features."""
    return LinearMap(table, NO_PROFILES, torch.randn(len(rows), FEATURES), rows.shape[1])


def neighbours(table: EntityTable, rows: Tensor) -> Part:
    """Make neighbours at random."""
    links = torch.randint(1, len(rows), (len(rows), NEIGHBOURS))
    return Neighbours(table, NO_PROFILES, NeighbourMean(links, rows), SHARE)


class Arm:
    """A model with its optimizer, and hybrid tables or none."""

    def __init__(self, rows: int, width: int, make: Maker | None) -> None:
        torch.manual_seed(1)
        self.model = Factors(rows, width)
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.folded = []
        if make is not None:
            for name, parameter in self.model.named_parameters():
                part = make(EntityTable(name, "item", rows), parameter.detach())
                self.folded.append(FoldedParameter(name, parameter, [part]))
            join_optimizers(self.folded, [self.optimizer])

    def epoch(self, on_demand: bool) -> ExitStack:
        """Open an epoch."""
        opened = ExitStack()
        for folded in self.folded if on_demand else ():
            module = self.model.get_submodule(folded.name.rpartition(".")[0])
            opened.enter_context(folded.on_demand([module]))
        return opened

    def seconds(self, batch: Tensor) -> float:
        """Return the processor's seconds for a step."""
        start = time.process_time()
        self._step(batch)
        return time.process_time() - start

    def _step(self, batch: Tensor) -> None:
        self.optimizer.zero_grad()
        self.model(batch).backward()
        self.optimizer.step()


def main() -> None:
    """Print a table of both kinds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--pairs", type=int, default=25)
    options = parser.parse_args()
    if options.pairs < 1:
        parser.error("--pairs: at least 1")
    torch.set_num_threads(1)
    batch = torch.randint(1, options.rows, (3, options.batch))
    plain = Arm(options.rows, options.width, None)
    lines = []
    for make in (linear, neighbours):
        hybrid = Arm(options.rows, options.width, make)
        for on_demand in (True, False):
            with hybrid.epoch(on_demand) as epoch:
                for arm in (plain, hybrid):  # the first of an epoch checks that rows are looked up
                    arm.seconds(batch)
                pairs = [
                    (plain.seconds(batch), hybrid.seconds(batch)) for _ in range(options.pairs)
                ]
                start = time.process_time()
                epoch.close()
                end = 1000 * (time.process_time() - start)
            ratio = statistics.median(step / base for base, step in pairs)
            base = 1000 * statistics.median(base for base, _ in pairs)
            lines.append((make.__name__, "on demand" if on_demand else "whole", ratio, base, end))
    headers = ["kt_hybrid", "rows", "ratio", "base (ms)", "end of an epoch (ms)"]
    print(tabulate(lines, headers, tablefmt="github", floatfmt=("", "", ".3f", ".1f", ".1f")))


if __name__ == "__main__":
    main()
