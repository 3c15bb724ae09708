"""Transforms: how long they take, and how much of their targets all users share.

python benchmarks/transforms.py [TRANSFORM ...]

Seconds are for 6,040 clustered vectors 384 wide (as many as MovieLens-1M has users), the targets
those of the bundled profiles of MovieLens-100K's users.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tabulate import tabulate
from tqdm import tqdm

from recbole_llmkt.profiles.embeddings import read_embeddings
from recbole_llmkt.profiles.loading import ProfileVectors
from recbole_llmkt.transfer.targets.build import TRANSFORMS, build_targets

N_PROFILES, DIM_TEXT, N_CLUSTERS, WIDTH, SEED = 6040, 384, 20, 64, 2020
# (rows, transform) beside those of every transform at N_PROFILES.
LARGE = ((20_000, "pca"), (200_000, "pca"))
PROFILES = Path(__file__).parent.parent / "dataset" / "ml-100k" / "profiles"
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


def clustered(n: int) -> npt.NDArray[np.float32]:
    """Return unit vectors around random centres, shape (n, DIM_TEXT)."""
    rng = np.random.default_rng(SEED)
    centres = rng.standard_normal((N_CLUSTERS, DIM_TEXT))
    noise = 0.7 * rng.standard_normal((n, DIM_TEXT))
    vectors = centres[rng.integers(N_CLUSTERS, size=n)] + noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors, dtype=np.float32)


def seconds(name: str, n: int) -> tuple[float, float]:
    """Time one transform to WIDTH dimensions (DIM_TEXT for `none`), without the cache on the disk.

    The first number is the clock's, the second the processor's: they part on a busy machine.
    """
    ids = np.arange(1, n + 1, dtype=np.int64)
    profiles = ProfileVectors("user", ids, clustered(n), n + 1, "synthetic", "synthetic")
    started, busy = time.perf_counter(), time.process_time()
    build_targets(profiles, DIM_TEXT if name == "none" else WIDTH, name, seed=SEED)
    return time.perf_counter() - started, time.process_time() - busy


def lengths(name: str) -> tuple[float, float]:
    """Return how long the mean of the targets is, and each one's way from it (root mean square)."""
    embeddings = read_embeddings(PROFILES, ENCODER, "user")
    assert embeddings is not None
    vectors = np.asarray(embeddings.vectors, dtype=np.float32)
    ids = np.arange(1, len(vectors) + 1, dtype=np.int64)
    profiles = ProfileVectors("user", ids, vectors, len(ids) + 1, ENCODER, "bundled")
    width = vectors.shape[1] if name == "none" else WIDTH
    values = build_targets(profiles, width, name, seed=SEED).values[1:]
    mean = values.mean(dim=0)
    return float(mean.norm()), float((values - mean).square().sum(dim=1).mean().sqrt())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    for unknown in {*sys.argv[1:]} - {*TRANSFORMS}:
        sys.exit(f"Unknown transform '{unknown}': there are {', '.join(TRANSFORMS)}.")
    wanted = [(N_PROFILES, name) for name in sys.argv[1:] or TRANSFORMS]
    if not sys.argv[1:]:
        wanted += LARGE
    rows = [[name, n, *seconds(name, n)] for n, name in tqdm(wanted)]
    print(
        tabulate(
            rows,
            ["transform", "profiles", "seconds", "processor seconds"],
            floatfmt=".1f",
            intfmt=",",
        )
    )
    spread = [[name, *lengths(name)] for name in sys.argv[1:] or TRANSFORMS]
    print("\n" + tabulate(spread, ["transform", "their mean", "way from it"], floatfmt=".2f"))
