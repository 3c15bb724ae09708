"""Several processes that train one model: what they tell each other.

Each function does nothing, or returns what it was given, where there is one process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import distributed, nn

Value = TypeVar("Value")


def process_count() -> int:
    """Return the number of processes that train together."""
    if distributed.is_available() and distributed.is_initialized():
        count: int = distributed.get_world_size()
        return count
    return 1


def wait_for_all() -> None:
    """Wait until all processes are here."""
    if process_count() > 1:
        distributed.barrier()


def of_first_process(value: Value) -> Value:
    """Return the first process's value to all of them."""
    values = [value]
    if process_count() > 1:
        distributed.broadcast_object_list(values, src=0)
    return values[0]


def gathered(value: Value) -> list[Value]:
    """Return every process's value, the first one's first."""
    values = [value] * process_count()
    if len(values) > 1:
        distributed.all_gather_object(values, value)
    return values


def process_means(values: Sequence[float | None]) -> list[float | None]:
    """Return the mean of each value over the processes that have one.

    Parameters
    ----------
    values : sequence of float or None
        As many in every process.
    """
    if process_count() == 1:
        return list(values)
    known = [[value for value in row if value is not None] for row in zip(*gathered(list(values)))]
    return [sum(row) / len(row) if row else None for row in known]


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their mean over the processes; one without a gradient counts as zero.

    A parameter without a gradient in any process stays without.
    """
    named = list(parameters)
    if process_count() == 1 or not named:
        return
    known = torch.tensor([float(each.grad is not None) for each in named]).to(named[0])
    gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in named]
    flat = torch.cat([known, *(gradient.flatten() for gradient in gradients)])
    distributed.all_reduce(flat)
    lengths = [len(named), *(gradient.numel() for gradient in gradients)]
    counts, *means = torch.split(flat, lengths)
    for parameter, count, mean in zip(named, counts.tolist(), means):
        parameter.grad = mean.view_as(parameter) / process_count() if count else None
