"""Transfer losses between hidden states and targets: one short class each.

The notation of the docstrings: z and p are the hidden states and the targets of the same m rows,
both of width n.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_llmkt.exceptions import ConfigError, nearest
from recbole_llmkt.registry import import_class


class TransferLoss(nn.Module):
    """Base of the transfer losses: checks once, then the mathematics of the subclass.

    Subclasses write :meth:`compute`.
    """

    same_width = True

    def forward(self, hidden: Tensor, target: Tensor, ids: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        hidden : Tensor, shape (m, n)
            Hidden states (projected, if there is a projector).
        target : Tensor, shape (m, n)
            Their targets.
        ids : Tensor of int64, shape (m,)
            RecBole's ids of the rows; an id may stand in several rows.

        Returns
        -------
        Tensor, shape ()
            The loss; zero, with a graph, where there are no rows.

        Raises
        ------
        ValueError
            Shapes that do not belong together.
        """
        if hidden.dim() != 2 or len(hidden) != len(target) or len(ids) != len(hidden):
            raise ValueError(
                f"hidden {tuple(hidden.shape)}, target {tuple(target.shape)} and ids "
                f"{tuple(ids.shape)} must have the same number of rows."
            )
        if self.same_width and hidden.shape != target.shape:
            raise ValueError(
                f"hidden is {hidden.shape[1]} wide and target {target.shape[1]}: they must agree."
            )
        if not len(hidden):
            return hidden.sum() * 0.0
        return self.compute(hidden.float(), target.float(), ids)

    def compute(self, hidden: Tensor, target: Tensor, ids: Tensor) -> Tensor:
        """Compute the loss of at least one row, in float32."""
        raise NotImplementedError


class RMSELoss(TransferLoss):
    r"""Root of the mean squared error, the paper's loss.

    .. math:: L = \sqrt{\frac{1}{m n} \sum_{i=1}^{m} \sum_{j=1}^{n} (z_{ij} - p_{ij})^2}

    References
    ----------
    LLM-KT (arXiv 2411.00556), Eq. 2.
    """

    def compute(self, hidden: Tensor, target: Tensor, ids: Tensor) -> Tensor:
        """Compute Eq. 2; its gradient at a perfect reconstruction is zero, not NaN."""
        difference = hidden - target
        length: Tensor = torch.linalg.vector_norm(difference)
        return length.div(difference.numel() ** 0.5)


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


LOSSES: dict[str, type[TransferLoss]] = {
    "rmse": RMSELoss,
    "mse": MSELoss,
    "cosine": CosineLoss,
}


def make_loss(name: str) -> TransferLoss:
    """Make a transfer loss from its name or class path.

    Raises
    ------
    ConfigError
        There is no such loss.
    """
    if name in LOSSES:
        return LOSSES[name]()
    if "." not in name:
        raise ConfigError(
            f"Unknown kt_loss '{name}': choose one of {', '.join(LOSSES)} or a class path."
            f"{nearest(name, LOSSES)}"
        )
    found = import_class(name)
    if not issubclass(found, TransferLoss):
        raise ConfigError(f"kt_loss '{name}' must be a subclass of TransferLoss.")
    return found()
