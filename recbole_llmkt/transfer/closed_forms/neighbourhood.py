r"""ItemKNN and AsymKNN with profiles: the nearest by clicks and by profile.

With :math:`x_i` an item's clicks (a user's, with ``knn_method: user``) and :math:`t_i` its
profile's features, both models keep the ``k`` largest similarities of each item, and the scores
are :math:`XW`. C is the model's own similarity of the clicks:

- ItemKNN: the cosine, with ``shrink`` in the denominator.
- AsymKNN (Aiolli, RecSys 2013): :math:`x_i'x_j / (n_j^{\alpha} n_i^{1 - \alpha})`, n the number of
  clicks.

Profiles come in as

- ``rows``: the same similarity of :math:`(x_i, \sqrt w\,t_i)`, profiles as further rows of the
  interactions (as in Mobasher et al., "Semantically enhanced collaborative filtering", 2004).
- ``drawn``: :math:`(C + wS)/(1 + w)`, the minimum of :math:`|W - C|^2 + w |W - S|^2`, S the same
  similarity of the profiles alone; where one of the two has no profile it is C.

Similarities below 0 count as 0: neighbours are those alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recbole_llmkt.transfer.closed_forms.problem import Problem, Solution, gram_block
from recbole_llmkt.utils.types import IntArray, Matrix, RunConfig

if TYPE_CHECKING:
    from scipy.sparse import spmatrix

_TINY = 1e-6  # RecBole's, in itemknn.py and asymknn.py

# Similarities from products (n, b), sizes of the rows (n, 1) and of the columns (1, b).
Similarity = Callable[[Tensor, Tensor, Tensor], Tensor]


def solve_cosine(problem: Problem) -> Solution:
    """Find ItemKNN's neighbours with profiles."""
    shrink = float(problem.config["shrink"] or 0.0)
    return _solve(problem, 2, _cosine(shrink), _cosine(0.0))


def solve_asymmetric(problem: Problem) -> Solution:
    """Find AsymKNN's neighbours with profiles."""
    similarity = _asymmetric(float(problem.config["alpha"]))
    return _solve(problem, 1, similarity, similarity)


def _cosine(shrink: float) -> Similarity:
    def similarity(products: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return products / (rows.sqrt() * columns.sqrt() + shrink + _TINY)

    return similarity


def _asymmetric(alpha: float) -> Similarity:
    def similarity(products: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return products / (columns**alpha * rows ** (1.0 - alpha) + _TINY)

    return similarity


def _solve(
    problem: Problem, power: int, of_clicks: Similarity, of_profiles: Similarity
) -> Solution:
    """Find neighbours; the size of an item's clicks is the sum of their powers."""
    users = problem.config["knn_method"] == "user"
    clicks = (problem.interactions.T if users else problem.interactions).tocsc()
    features, weight = problem.features, problem.weight
    sizes = torch.from_numpy(np.asarray(clicks.power(power).sum(axis=0)).T).to(features)
    lengths = features.square().sum(dim=1, keepdim=True)
    known = lengths > 0
    nearest = _Nearest(len(features), problem.config)
    for block in problem.blocks(len(features), "Nearest users" if users else "Nearest items"):
        own = slice(block.start, block.stop)
        counts = torch.from_numpy(gram_block(clicks, block)).to(features)
        products = features @ features[own].T
        if problem.kind == "rows":
            total = sizes + weight * lengths
            mixed = of_clicks(counts.add_(products, alpha=weight), total, total[own].T)
        else:
            by_clicks = of_clicks(counts, sizes, sizes[own].T)
            by_profile = of_profiles(products, lengths, lengths[own].T)
            share = (known & known[own].T) * (weight / (1.0 + weight))
            mixed = torch.lerp(by_clicks, by_profile.clamp_(min=0.0), share)
        nearest.add(mixed.clamp_(min=0.0), block)
    matrix = nearest.matrix()
    return {"w": matrix.T.tocsc() if users else matrix}


class _Nearest:
    """The largest similarities of each column, as a sparse matrix that grows by blocks."""

    def __init__(self, n: int, config: RunConfig) -> None:
        self._n = n
        self._k = min(int(config["k"]), n)
        self._parts: list[tuple[Matrix, IntArray]] = []

    def add(self, similarity: Tensor, block: range) -> None:
        """Take a block of columns, shape (n, len(block))."""
        columns = torch.arange(block.start, block.stop, device=similarity.device)
        similarity[columns, columns - block.start] = 0.0  # nobody is a neighbour of itself
        values, rows = similarity.topk(self._k, dim=0)
        filled = values > 0
        numbers = columns.expand_as(rows)[filled]
        entries = torch.stack([rows[filled], numbers]).cpu().numpy()
        self._parts.append((values[filled].cpu().numpy(), entries))

    def matrix(self) -> spmatrix:
        """Return them all, shape (n, n)."""
        values, entries = (np.concatenate(parts, axis=-1) for parts in zip(*self._parts))
        return sp.csc_matrix((values, tuple(entries)), shape=(self._n, self._n))
