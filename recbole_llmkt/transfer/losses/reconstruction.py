"""Losses that draw each hidden state to its own target.

The notation: z and p are the hidden states and the targets of the same m rows, both of width n.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from recbole_llmkt.transfer.losses.base import RowLoss, mean_row

_SMALLEST = 1e-30


class RMSELoss(RowLoss):
    r"""Root of the mean squared error, the paper's loss.

    .. math:: L = \sqrt{\frac{1}{m n} \sum_{i=1}^{m} \sum_{j=1}^{n} (z_{ij} - p_{ij})^2}

    References
    ----------
    LLM-KT (arXiv 2411.00556), Eq. 2.
    """

    def weighted(self, hidden: Tensor, target: Tensor, counts: Tensor | None) -> Tensor:
        """Compute Eq. 2; its gradient at a perfect reconstruction is zero, not NaN."""
        loss: Tensor = _RootMeanSquare.apply(hidden, target, counts)  # type: ignore[no-untyped-call]
        return loss


class _RootMeanSquare(torch.autograd.Function):
    """Root of the mean squared difference, with its gradient in one product.

    The gradient of PyTorch's norm goes over the difference four times, which took as long as the
    model's own step.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, target: Tensor, counts: Tensor | None) -> Tensor:
        """Compute the root of the mean squared difference."""
        difference = hidden - target
        if counts is None:
            pulled, ctx.size = difference, float(difference.numel())
            root: Tensor = torch.linalg.vector_norm(difference).div(ctx.size**0.5)
        else:
            pulled = difference * counts.unsqueeze(1)
            ctx.size = counts.sum().clamp_min(1.0) * hidden.shape[1]
            root = (torch.dot(pulled.flatten(), difference.flatten()) / ctx.size).sqrt()
        ctx.save_for_backward(pulled, root)
        return root

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """Return both gradients."""
        pulled, root = ctx.saved_tensors
        # At a root of zero all of the numerator is zero, too.
        of_hidden = pulled * (gradient / (root * ctx.size).clamp_min(_SMALLEST))
        return of_hidden, -of_hidden if ctx.needs_input_grad[1] else None, None


class MSELoss(RowLoss):
    r"""Mean squared error.

    .. math:: L = \frac{1}{m n} \sum_{i=1}^{m} \sum_{j=1}^{n} (z_{ij} - p_{ij})^2

    References
    ----------
    Chosen most often in the authors' follow-up on sequential models (arXiv 2604.21536).
    """

    def weighted(self, hidden: Tensor, target: Tensor, counts: Tensor | None) -> Tensor:
        """Compute the mean over rows and width."""
        if counts is None:
            return functional.mse_loss(hidden, target)
        return mean_row((hidden - target).square().mean(1), counts)


class CosineLoss(RowLoss):
    r"""One minus the cosine of the angle between hidden state and target.

    .. math:: L = \frac{1}{m} \sum_{i=1}^{m}
              \left(1 - \frac{z_i \cdot p_i}{\|z_i\| \, \|p_i\|}\right)
    """

    def weighted(self, hidden: Tensor, target: Tensor, counts: Tensor | None) -> Tensor:
        """Compute the mean over rows; it does not depend on the length of the vectors."""
        return mean_row(1.0 - functional.cosine_similarity(hidden, target, dim=1), counts)


class SCELoss(RowLoss):
    r"""Scaled cosine error: rows that are nearly right weigh less than with the cosine itself.

    .. math:: L = \frac{1}{m} \sum_{i=1}^{m}
              \left(1 - \frac{z_i \cdot p_i}{\|z_i\| \, \|p_i\|}\right)^\gamma

    Attributes
    ----------
    gamma : float
        The exponent, 2.

    References
    ----------
    GraphMAE (Hou et al., 2022, arXiv 2205.10803), Eq. 2.
    """

    gamma = 2.0

    def weighted(self, hidden: Tensor, target: Tensor, counts: Tensor | None) -> Tensor:
        """Compute the mean over rows; it does not depend on the length of the vectors."""
        cosine = functional.cosine_similarity(hidden, target, dim=1)
        # Rounding may take a cosine above 1, and a power of a negative number may be NaN.
        return mean_row((1.0 - cosine).clamp_min(0.0).pow(self.gamma), counts)
