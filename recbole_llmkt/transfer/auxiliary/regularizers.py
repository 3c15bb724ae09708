"""Penalties against collapse: conditions on the tapped states themselves."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_llmkt.transfer.losses.base import unique_rows


class VICReg(nn.Module):
    r"""Variance and covariance of the states of a batch's m entities, each counted once.

    .. math:: R = \frac{1}{d} \sum_j \max\left(0, 1 - \sqrt{C_{jj} + \epsilon}\right)
              + \frac{1}{25} \cdot \frac{1}{d} \sum_{i \ne j} C_{ij}^2

    C is the covariance matrix (over m - 1) of the states in units of s, the root mean variance of
    the same entities' targets: no direction may spread less than the targets do on average, and
    no two may be correlated. Without the unit the hinge at 1 would work against every loss whose
    targets are shorter.

    Attributes
    ----------
    covariance_weight : float
        1/25, the authors' ratio of covariance to variance.

    References
    ----------
    VICReg (Bardes et al., 2022, arXiv 2105.04906), Eqs. 1-4; the transfer loss takes the place of
    its invariance term.
    """

    covariance_weight = 1.0 / 25.0
    epsilon = 1e-4
    least_spread = 1e-3

    def forward(self, hidden: Tensor, target: Tensor, ids: Tensor) -> Tensor:
        """Compute the penalty.

        Parameters
        ----------
        hidden : Tensor, shape (m, d)
            Hidden states (projected, if there is a projector).
        target : Tensor, shape (m, n)
            Their targets.
        ids : Tensor of int64, shape (m,)
            RecBole's ids of the rows; an id may stand in several rows.

        Returns
        -------
        Tensor of float32, shape ()
            Zero, with a graph, for fewer than two entities.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            states, _, first = unique_rows(hidden.float(), ids)
            wanted = target[first].detach().float()
            if len(states) < 2:
                return hidden.sum() * 0.0
            spread = wanted.var(0).mean().sqrt().clamp_min(self.least_spread)
            states = (states - states.mean(0)) / spread
            covariance = states.T @ states / (len(states) - 1)
            variance = covariance.diagonal()
            hinge = functional.relu(1.0 - torch.sqrt(variance + self.epsilon)).mean()
            crossed = (covariance.square().sum() - variance.square().sum()) / len(variance)
            return hinge + self.covariance_weight * crossed


REGULARIZERS: dict[str, type[nn.Module]] = {"vicreg": VICReg}


def make_regularizer(name: str) -> nn.Module | None:
    """Make the penalty that ``kt_regularizer`` names; None for ``none``."""
    return REGULARIZERS[name]() if name != "none" else None
