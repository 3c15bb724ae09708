r"""EASE with item profiles.

Steck, "Embarrassingly shallow autoencoders for sparse data" (WWW 2019), minimises
:math:`|X - XB|^2 + \lambda |B|^2` over all B with a diagonal of 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_llmkt.transfer.closed_forms.inverse import inverse
from recbole_llmkt.transfer.closed_forms.problem import Problem, Solution

PROFILE_RIDGE = 10.0  # of the matrix that is fitted on the profiles alone
_REMEDY = "set a larger reg_weight"


def solve_ease(problem: Problem) -> Solution:
    r"""Solve EASE with profiles.

    - ``rows``: :math:`|X - XB|^2 + w |T' - T'B|^2 + \lambda |B|^2`, profiles as further rows of the
      interactions (Jeunen et al., RecSys 2020).
    - ``drawn``: :math:`|X - XB|^2 + w |B - S|^2 + \lambda |B|^2`, S the EASE of the profiles alone
      (L3AE, arXiv 2508.13500).
    """
    solve = {"drawn": solve_drawn, "rows": solve_with_rows}[problem.kind]
    ridge = float(problem.config["reg_weight"])
    matrix = solve(problem.gram(), problem.features, ridge, problem.weight, problem.quiet)
    return {"item_similarity": matrix.cpu().numpy()}


def solve_with_rows(
    gram: Tensor, features: Tensor, ridge: float, weight: float, quiet: bool = True
) -> Tensor:
    """Solve EASE with the profiles as further rows of the interactions.

    Parameters
    ----------
    gram : Tensor, shape (n, n)
        X'X; it is overwritten.
    features : Tensor, shape (n, d)
        T.
    ridge, weight : float
        The model's regularisation and the weight of the profiles.
    quiet : bool
        Whether to do without a progress bar.

    Returns
    -------
    Tensor, shape (n, n)
        B.

    Raises
    ------
    ConfigError
        The matrix cannot be inverted.
    """
    gram.addmm_(features, features.T, alpha=weight)
    gram.diagonal().add_(ridge)
    return _ease(inverse(gram, _REMEDY, quiet))


def solve_drawn(
    gram: Tensor, features: Tensor, ridge: float, weight: float, quiet: bool = True
) -> Tensor:
    """Solve EASE with its matrix drawn towards that of the profiles alone.

    Parameters, result and errors are those of :func:`solve_with_rows`.
    """
    gram.diagonal().add_(ridge + weight)
    inverted = inverse(gram, _REMEDY, quiet)
    # P (G + w S) = I + P (w S - (l + w) I), which does without G; S is of the rank of T but for its
    # diagonal of 0.
    right, own = _low_rank(features, PROFILE_RIDGE)
    product = inverted * -(weight * own + ridge + weight)
    product.addmm_(inverted @ features, right, alpha=weight)
    product.diagonal().add_(1.0)
    multipliers = product.diagonal() / inverted.diagonal()
    product -= inverted.mul_(multipliers)
    return without_diagonal(product)


def _low_rank(features: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Return R, shape (d, n), and s, shape (n,), so that S = T R - diag(s).

    S is that of :func:`profile_similarity`: B = -P / diag(P) outside of the diagonal, where
    P = I - T (T'T + r I)^-1 T' is the inverse of T T' + r I but for a factor that cancels out.
    """
    wide = features.double()
    small = wide.T @ wide
    small.diagonal().add_(ridge)
    right = torch.linalg.solve(small, wide.T)
    own = (wide.T * right).sum(0)
    return (right / (1.0 - own)).to(features.dtype), (own / (1.0 - own)).to(features.dtype)


def profile_similarity(features: Tensor, ridge: float = PROFILE_RIDGE) -> Tensor:
    """Return the EASE of the profiles alone.

    Parameters
    ----------
    features : Tensor, shape (n, d)
        T.
    ridge : float
        Its regularisation.

    Returns
    -------
    Tensor, shape (n, n)
        S.
    """
    # A small inverse in place of a large one.
    right, _ = _low_rank(features, ridge)
    return without_diagonal(features @ right)


def _ease(inverted: Tensor) -> Tensor:
    """Return I - P / diag(P), column by column; P is overwritten."""
    return without_diagonal(inverted.div_(-inverted.diagonal().clone()))


def without_diagonal(matrix: Tensor) -> Tensor:
    """Set the diagonal of a matrix to 0, in its place."""
    matrix.fill_diagonal_(0.0)
    return matrix
