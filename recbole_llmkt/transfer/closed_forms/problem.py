"""What a model of closed form is solved from, and the steps that several of them share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from recbole_llmkt.transfer.closed_forms.inverse import PATIENCE
from recbole_llmkt.utils.progress import tqdm
from recbole_llmkt.utils.types import Matrix, RunConfig, Values

if TYPE_CHECKING:
    from scipy.sparse import spmatrix

# Attributes of a model: arrays, scipy's sparse matrices or tensors, as RecBole has them.
Solution = Values

Step = TypeVar("Step")

BY_ROOT = 60.0  # weight of the profiles by default, over the root of an item's interactions
_PIECE = 2**26  # numbers at once: 256 MiB


@dataclass(frozen=True)
class Problem:
    """A model's data, the profiles, and how they come in.

    Attributes
    ----------
    config : RunConfig
        The model's own keys, ``device`` and ``show_progress``.
    interactions : scipy.sparse.csr_matrix of float32, shape (n_users, n_items)
        X, of the training split.
    features : Tensor of float32, shape (n, dim_text)
        T, on the run's device: centred profile embeddings by internal id, zero where there is none.
        Those of the items, or of the users where the model compares users.
    kind : str
        ``drawn`` or ``rows``.
    weight : float
        w, above 0.
    """

    config: RunConfig
    interactions: spmatrix
    features: Tensor
    kind: str
    weight: float

    @property
    def quiet(self) -> bool:
        """Whether progress bars are off."""
        return not self.config["show_progress"]

    def blocks(self, n: int, title: str) -> Iterable[range]:
        """Divide n columns into blocks, under a progress bar."""
        size = max(1, _PIECE // n)
        parts = [range(start, min(start + size, n)) for start in range(0, n, size)]
        return self.bar(parts, title)

    def bar(self, steps: Sequence[Step], title: str) -> Iterable[Step]:
        """Return steps under a progress bar, which shows when they take over two seconds."""
        bar: Iterable[Step] = tqdm(steps, desc=title, delay=PATIENCE, disable=self.quiet, ncols=100)
        return bar

    def gram(self) -> Tensor:
        """Return G = X'X, shape (n_items, n_items), on the device of the features."""
        clicks = self.interactions.tocsc()
        n = clicks.shape[1]
        gram = np.empty((n, n), dtype=np.float32)
        for block in self.blocks(n, "Co-occurrences"):
            gram[:, block.start : block.stop] = gram_block(clicks, block)
        return torch.from_numpy(gram).to(self.features.device)


def default_weight(interactions: spmatrix) -> float:
    """Return a weight of the profiles in keeping with the interactions.

    The diagonal of G = X'X holds each item's number of interactions. The weight grows with the
    square root of their mean: in proportion to it, profiles would drown many interactions, and a
    constant would drown few (docs/closed-form.md has the validation figures).

    Parameters
    ----------
    interactions : scipy.sparse.csr_matrix, shape (n_users, n_items)
        X; column 0 is the padding item.
    """
    n_items = max(1, int(interactions.shape[1]) - 1)
    return BY_ROOT * math.sqrt(float(interactions.sum()) / n_items)


def gram_block(clicks: spmatrix, block: range) -> Matrix:
    """Return some columns of X'X; X is a scipy.sparse.csc_matrix."""
    columns: Matrix = (clicks.T @ clicks[:, block.start : block.stop]).toarray()
    return columns
