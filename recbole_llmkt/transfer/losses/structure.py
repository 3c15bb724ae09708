"""Losses that compare relations, so hidden states and targets need not be equally wide."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recbole_llmkt.transfer.losses.base import (
    Others,
    TransferLoss,
    to_unit_length,
    unique_rows,
)


class GramLoss(TransferLoss):
    r"""Entities with similar profiles get similar hidden states.

    .. math:: L = \frac{1}{m^2} \| Z Z^\top - P P^\top \|_F^2

    Z and P hold the hidden states and the targets of the batch's m entities, each of length 1.

    Notes
    -----
    With more entities than columns it is computed as
    :math:`(\|Z^\top Z\|_F^2 - 2 \|Z^\top P\|_F^2 + \|P^\top P\|_F^2) / m^2`: the same, but time and
    memory grow with m, not with its square.

    References
    ----------
    Similarity-preserving distillation (Tung and Mori, 2019, arXiv 1907.09682), with cosines in
    place of row-normalised products.
    """

    same_width = False
    unique = True

    def compute(self, hidden: Tensor, target: Tensor, ids: Tensor) -> Tensor:
        """Compute the mean squared difference of all pairs' cosines."""
        z, p = to_unit_length(hidden), to_unit_length(target)
        if len(z) <= z.shape[1] + p.shape[1]:
            return (z @ z.T - p @ p.T).square().mean()
        norms = [(a.T @ b).square().sum() for a, b in ((z, z), (z, p), (p, p))]
        # Rounding may leave a perfect reconstruction below zero.
        return (norms[0] - 2.0 * norms[1] + norms[2]).clamp_min(0.0) / len(z) ** 2


class SoftRankLoss(TransferLoss):
    r"""Each user's ranking of the batch's items follows the ranking by profile.

    .. math:: T_u = \mathrm{softmax}(p_u \cdot P_I / \tau), \quad
              Q_u = \mathrm{softmax}(z_u \cdot Z_I / \tau), \quad
              L = -\frac{\sum_u w_u \sum_i T_{ui} \log Q_{ui}}{\sum_u w_u}, \quad
              w_u = \log |I| - H(T_u)

    I are the q items of the batch, z and Z the hidden states of its users and items as they are,
    p and P their profile embeddings, of length 1. A user whose profile says little (T_u is nearly
    even, its entropy H near log q) weighs little. With items as rows, users take the items' part.

    References
    ----------
    In the style of ProMax: profiles shape the distribution over items.
    """

    same_width = False
    unique = True
    partners = True

    def compute_among(
        self, hidden: Tensor, target: Tensor, ids: Tensor, others: Others | None
    ) -> Tensor:
        """Compute the weighted mean of the cross-entropies; zero without any partner."""
        if others is None or others.partner_hidden is None or others.partner_target is None:
            raise ValueError("softrank needs the other entity's hidden states and targets.")
        if others.partner_ids is None or not len(others.partner_ids):
            return hidden.sum() * 0.0
        partner_hidden, _, first = unique_rows(others.partner_hidden.float(), others.partner_ids)
        partner_target = to_unit_length(others.partner_target[first].float())
        wanted = to_unit_length(target) @ partner_target.T / self.temperature
        scores = (hidden / self.temperature) @ partner_hidden.T
        log_wanted = torch.log_softmax(wanted, dim=1)
        share = torch.softmax(wanted, dim=1)
        crossed = -(share * torch.log_softmax(scores, dim=1)).sum(1)
        certainty = math.log(wanted.shape[1]) + (share * log_wanted).sum(1)
        # Never all zero: with one item, or profiles that say nothing, everybody weighs the same.
        weights = certainty.clamp_min(0.0) + 1e-8
        return (weights * crossed).sum() / weights.sum()
