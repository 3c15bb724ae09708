"""Transfer losses between hidden states and targets: one short class each."""

from __future__ import annotations

from recbole_llmkt.transfer.losses.base import Others, TransferLoss
from recbole_llmkt.transfer.losses.contrast import GenerativeLoss, InfoNCELoss
from recbole_llmkt.transfer.losses.reconstruction import (
    CosineLoss,
    MSELoss,
    RMSELoss,
    SCELoss,
)
from recbole_llmkt.transfer.losses.structure import GramLoss, SoftRankLoss
from recbole_llmkt.utils.exceptions import ConfigError, nearest
from recbole_llmkt.utils.importing import import_subclass, make_own

__all__ = [
    "LOSSES",
    "CosineLoss",
    "GenerativeLoss",
    "GramLoss",
    "InfoNCELoss",
    "MSELoss",
    "Others",
    "RMSELoss",
    "SCELoss",
    "SoftRankLoss",
    "TransferLoss",
    "make_loss",
]

LOSSES: dict[str, type[TransferLoss]] = {
    "rmse": RMSELoss,
    "mse": MSELoss,
    "cosine": CosineLoss,
    "sce": SCELoss,
    "infonce": InfoNCELoss,
    "generative": GenerativeLoss,
    "gram": GramLoss,
    "softrank": SoftRankLoss,
}


def make_loss(name: str, temperature: float = 0.2) -> TransferLoss:
    """Make a transfer loss from its name or class path.

    Parameters
    ----------
    name : str
        ``kt_loss``: a key of :data:`LOSSES`, or the path of a subclass of :class:`TransferLoss`
        that needs no arguments.
    temperature : float
        ``kt_temperature``, for the losses that have one.

    Raises
    ------
    ConfigError
        There is no such loss, or an own class cannot be used.
    """
    if name not in LOSSES and "." not in name:
        raise ConfigError(
            f"Unknown kt_loss '{name}': choose one of {', '.join(LOSSES)} or a class path."
            f"{nearest(name, LOSSES)}"
        )
    loss = LOSSES[name]() if name in LOSSES else _own(name)
    loss.temperature = temperature
    return loss


def _own(path: str) -> TransferLoss:
    loss_class = import_subclass("kt_loss", path, TransferLoss)
    defined = (loss_class.compute, loss_class.compute_among)
    if defined == (TransferLoss.compute, TransferLoss.compute_among):
        raise ConfigError(
            f"kt_loss: '{path}' has no compute(hidden, target, ids): define it, and return the "
            "loss of the rows as a tensor of shape ()."
        )
    return make_own("kt_loss", path, loss_class)
