r"""NCEPLRec with item profiles.

Wu et al., "Noise contrastive estimation for one-class collaborative filtering" (SIGIR 2019): with D
the interactions X, each weighed by how rare its item is, and :math:`V \Sigma^{1/2}` of D's largest
singular values as the items' directions :math:`V^*`, users are :math:`Q = XV^*`, and the scores
:math:`QW` minimise :math:`|X - QW|^2 + \lambda |W|^2`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils.extmath import randomized_svd

from recbole_llmkt.transfer.closed_forms.problem import Problem, Solution

if TYPE_CHECKING:
    from scipy.sparse import spmatrix


def solve_projection(problem: Problem) -> Solution:
    r"""Solve NCEPLRec with profiles as further rows of the interactions (``rows``).

    The directions are those of D above :math:`\sqrt w\,T'`, and W minimises
    :math:`|X - QW|^2 + w |T' - T'V^*W|^2 + \lambda |W|^2`.
    """
    config, clicks = problem.config, problem.interactions
    rows = problem.features.numpy(force=True).T * np.float32(problem.weight**0.5)
    stacked = sp.vstack([rare_clicks(clicks, float(config["beta"])), sp.csr_matrix(rows)])
    _, singular_values, directions = randomized_svd(
        stacked.tocsr(),
        n_components=int(config["rank"]),
        n_iter="auto",
        power_iteration_normalizer="QR",
        random_state=config["seed"],
    )
    items = (directions.T * np.sqrt(singular_values)).astype(np.float32)
    users, profiles = clicks @ items, rows @ items
    left = users.T @ users + profiles.T @ profiles
    left.flat[:: len(left) + 1] += float(config["reg_weight"])
    right = (clicks.T @ users).T + profiles.T @ rows
    solved = np.linalg.solve(left.astype(np.float64), right).astype(np.float32)
    device = problem.features.device
    return {
        "user_embeddings": torch.from_numpy(users).to(device),
        "item_embeddings": torch.from_numpy(solved).to(device),
    }


def rare_clicks(clicks: spmatrix, beta: float) -> spmatrix:
    r"""Return D: each click counts :math:`\max(\log(n / c^\beta), 0)`, c the clicks of its item.

    Parameters
    ----------
    clicks : scipy.sparse.csr_matrix, shape (n_users, n_items)
        X.
    beta : float
        How much popularity counts.
    """
    counts = np.asarray(clicks.sum(axis=0), dtype=np.float64).ravel()
    weighed = clicks.copy()
    weights = np.log(clicks.shape[0] / np.power(counts[clicks.indices], beta))
    weighed.data = np.maximum(weights, 0.0).astype(np.float32)
    return weighed
