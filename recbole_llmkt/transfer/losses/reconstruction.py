"""Losses that draw each hidden state to its own target.

The notation: z and p are the hidden states and the targets of the same m rows, both of width n.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from recbole_llmkt.transfer.losses.base import TransferLoss


class RMSELoss(TransferLoss):
    r"""Root of the mean squared error, the paper's loss.

    .. math:: L = \sqrt{\frac{1}{m n} \sum_{i=1}^{m} \sum_{j=1}^{n} (z_{ij} - p_{ij})^2}

    References
    ----------
    LLM-KT (arXiv 2411.00556), Eq. 2.
    """

    def compute(self, hidden: Tensor, target: Tensor, ids: Tensor) -> Tensor:
        """Compute Eq. 2; its gradient at a perfect reconstruction is zero, not NaN."""
        loss: Tensor = _RootMeanSquare.apply(hidden, target)  # type: ignore[no-untyped-call]
        return loss


class _RootMeanSquare(torch.autograd.Function):
    """Root of the mean squared difference, with its gradient in one product.

    The gradient of PyTorch's norm goes over the difference four times, which took as long as the
    model's own step.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, target: Tensor) -> Tensor:
        """Compute the root of the mean squared difference."""
        difference = hidden - target
        length: Tensor = torch.linalg.vector_norm(difference)
        ctx.save_for_backward(difference, length)
        return length.div(difference.numel() ** 0.5)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return both gradients."""
        difference, length = ctx.saved_tensors
        slope = gradient / (length * difference.numel() ** 0.5)
        of_hidden = difference * torch.where(length > 0, slope, torch.zeros_like(slope))
        return of_hidden, -of_hidden if ctx.needs_input_grad[1] else None


class MSELoss(TransferLoss):
    r"""Mean squared error.

    .. math:: L = \frac{1}{m n} \sum_{i=1}^{m} \sum_{j=1}^{n} (z_{ij} - p_{ij})^2

    References
    ----------
    Chosen most often in the authors' follow-up on sequential models (arXiv 2604.21536).
    """

    def compute(self, hidden: Tensor, target: Tensor, ids: Tensor) -> Tensor:
        """Compute the mean over rows and width."""
        return functional.mse_loss(hidden, target)


class CosineLoss(TransferLoss):
    r"""One minus the cosine of the angle between hidden state and target.

    .. math:: L = \frac{1}{m} \sum_{i=1}^{m}
              \left(1 - \frac{z_i \cdot p_i}{\|z_i\| \, \|p_i\|}\right)
    """

    def compute(self, hidden: Tensor, target: Tensor, ids: Tensor) -> Tensor:
        """Compute the mean over rows; it does not depend on the length of the vectors."""
        return (1.0 - functional.cosine_similarity(hidden, target, dim=1)).mean()


class SCELoss(TransferLoss):
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

    def compute(self, hidden: Tensor, target: Tensor, ids: Tensor) -> Tensor:
        """Compute the mean over rows; it does not depend on the length of the vectors."""
        cosine = functional.cosine_similarity(hidden, target, dim=1)
        # Rounding may take a cosine above 1, and a power of a negative number may be NaN.
        return (1.0 - cosine).clamp_min(0.0).pow(self.gamma).mean()
