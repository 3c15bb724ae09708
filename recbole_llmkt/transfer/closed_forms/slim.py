r"""SLIMElastic and ADMMSLIM with item profiles: EASE's sums, with an L1 norm besides.

Either :math:`G = X'X`, which is all that both read of X, becomes :math:`G + wTT'` (``rows``), or B
is drawn towards S, the EASE of the profiles alone (``drawn``).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import enet_path
from torch import Tensor

from recbole_llmkt.transfer.closed_forms.ease import profile_similarity
from recbole_llmkt.transfer.closed_forms.inverse import inverse
from recbole_llmkt.transfer.closed_forms.problem import Problem, Solution
from recbole_llmkt.utils.types import Matrix, RunConfig

if TYPE_CHECKING:
    from scipy.sparse import spmatrix

# RecBole's own, in slimelastic.py and admmslim.py.
_SWEEPS, _TOLERANCE = 100, 1e-4
_TINY = 1e-7


def solve_elastic_net(problem: Problem) -> Solution:
    r"""Solve SLIMElastic (Ning and Karypis, "SLIM", ICDM 2011) with profiles.

    With n users, :math:`\alpha` = ``alpha`` and :math:`\rho` = ``l1_ratio``, each column b of B
    minimises

    .. math::
        |x_j - Xb|^2 + w\,d_j(b) + n\alpha(1 - \rho) |b|^2 + 2n\alpha\rho |b|_1

    with :math:`d_j(b) = |t_j - T'b|^2` (``rows``) or :math:`|b - s_j|^2` (``drawn``).
    """
    weight, gram = problem.weight, problem.gram()
    if problem.kind == "rows":
        targets = gram.addmm_(problem.features, problem.features.T, alpha=weight)
        norms = gram.diagonal().clone()
    else:
        targets = profile_similarity(problem.features)
        norms = gram.diagonal() + weight * targets.square().sum(dim=0)
        targets.mul_(weight).add_(gram)
        gram.diagonal().add_(weight)
    products, wanted = gram.numpy(force=True), targets.numpy(force=True)
    strength = float(problem.config["alpha"]) * problem.interactions.shape[0]
    columns = []
    for item in problem.bar(range(len(products)), "SLIM"):
        target, norm = wanted[:, item].copy(), float(norms[item])
        columns.append(_column(products, target, item, norm, strength, problem.config))
    return {"item_similarity": sp.hstack(columns, format="csc")}


def _column(
    gram: Matrix, target: Matrix, item: int, norm: float, strength: float, config: RunConfig
) -> spmatrix:
    """Return an item's column; the Gram matrix comes back as it was."""
    kept = gram[item].copy()
    if config["hide_item"]:
        target[item] = 0.0
        gram[item] = 0.0
        gram[:, item] = 0.0
    # With a Gram matrix, rows serve for their number and the target's norm alone: one will do.
    row, length = np.zeros((1, len(gram)), np.float32), np.array([norm**0.5], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        coefficients = enet_path(
            row,
            length,
            l1_ratio=float(config["l1_ratio"]),
            alphas=[strength],
            precompute=gram,
            Xy=target,
            positive=bool(config["positive_only"]),
            check_input=False,
            max_iter=_SWEEPS,
            tol=_TOLERANCE,
        )[1]
    gram[item] = kept
    gram[:, item] = kept
    return sp.csc_matrix(coefficients.astype(np.float32))


def solve_admm(problem: Problem) -> Solution:
    r"""Solve ADMMSLIM (Steck et al., "ADMM SLIM", WSDM 2020) with profiles.

    With D the items' mean clicks to the power of ``alpha``, B minimises, with a diagonal of 0,

    .. math::
        \tfrac12 |X - XB|^2 + \tfrac w2\,d(B) + \tfrac{\lambda_2}2 |D^{1/2}B|^2 + \lambda_1 |B|_1

    with :math:`d(B) = |T' - T'B|^2` (``rows``) or :math:`|B - S|^2` (``drawn``).
    """
    config, weight, features = problem.config, problem.weight, problem.features
    means = torch.from_numpy(problem.interactions.mean(axis=0).A1).to(features)
    gram = problem.gram()
    if config["center_columns"]:
        gram.addr_(means, means, alpha=-float(problem.interactions.shape[0]))
    penalty, rho = float(config["lambda2"]) * means ** float(config["alpha"]), float(config["rho"])
    ridge = penalty + rho
    if problem.kind == "rows":
        gram.addmm_(features, features.T, alpha=weight)
    else:
        ridge = ridge + weight
    gram.diagonal().add_(ridge)
    inverted = inverse(gram, "set a larger lambda2 or rho", problem.quiet)
    # P (G + w S) = I - P diag(ridge) + w P S, which does without G.
    start = inverted * -ridge
    start.diagonal().add_(1.0)
    if problem.kind == "drawn":
        start.addmm_(inverted, profile_similarity(features), alpha=weight)
    return {"item_similarity": _iterate(problem, inverted, start, rho).numpy(force=True)}


def _iterate(problem: Problem, inverted: Tensor, start: Tensor, rho: float) -> Tensor:
    """Run the alternating steps and return the sparse matrix C."""
    config = problem.config
    threshold = float(config["lambda1"]) / rho
    multipliers, sparse = torch.zeros_like(start), torch.zeros_like(start)
    work, dense = torch.empty_like(start), torch.empty_like(start)
    for _ in problem.bar(range(int(config["k"])), "ADMM"):
        torch.mul(sparse, rho, out=work).sub_(multipliers)
        torch.addmm(start, inverted, work, out=dense)
        gamma = dense.diagonal() / (inverted.diagonal() + _TINY)
        dense.addcmul_(inverted, gamma, value=-1.0)
        torch.add(dense, multipliers, alpha=1.0 / rho, out=work)
        if config["positive_only"]:
            work.clamp_(min=0.0)
        torch.sign(work, out=sparse)
        sparse.mul_(work.abs_().sub_(threshold).clamp_(min=0.0))
        multipliers.add_(dense, alpha=rho).sub_(sparse, alpha=rho)
    return sparse
