"""The global random streams: leave them alone, or save and restore them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from recbole_llmkt.utils.types import RunConfig, Values


def get_random_state() -> Values:
    """Return the state of Python's, numpy's and torch's global streams as plain values."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (
            kind,
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            position,
            has_gauss,
            gauss,
        ),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: Values) -> None:
    """Restore what :func:`get_random_state` returned."""
    kind, keys, position, has_gauss, gauss = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        # The state may come from a machine with more devices.
        here = state["cuda"][: torch.cuda.device_count()]
        torch.cuda.set_rng_state_all([state.cpu() for state in here])


@contextmanager
def isolated_randomness(seed: int | None = None) -> Iterator[None]:
    """Give the global random streams back as they were, whatever the block draws.

    Parameters
    ----------
    seed : int, optional
        Seed of all streams inside the block; by default they continue from their state.
    """
    state = get_random_state()
    try:
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.default_generator.manual_seed(seed)
            if torch.cuda.is_available():
                torch.cuda.manual_seed_all(seed)
        yield
    finally:
        set_random_state(state)


def transfer_seed(config: RunConfig) -> int:
    """Return the seed of all that this package draws: ``kt_seed``, or the run's ``seed``."""
    return int(config["kt_seed"] if config["kt_seed"] is not None else config["seed"])
