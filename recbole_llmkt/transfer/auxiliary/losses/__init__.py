"""Transfer losses between hidden states and targets: one short class each."""

from __future__ import annotations

from recbole_llmkt.transfer.auxiliary.losses.base import Others, TransferLoss
from recbole_llmkt.transfer.auxiliary.losses.contrast import GenerativeLoss, InfoNCELoss
from recbole_llmkt.transfer.auxiliary.losses.reconstruction import (
    CosineLoss,
    MSELoss,
    RMSELoss,
    SCELoss,
)
from recbole_llmkt.transfer.auxiliary.losses.structure import GramLoss, SoftRankLoss
from recbole_llmkt.utils.exceptions import ConfigError, nearest
from recbole_llmkt.utils.importing import import_class

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
        There is no such loss.
    """
    if name not in LOSSES and "." not in name:
        raise ConfigError(
            f"Unknown kt_loss '{name}': choose one of {', '.join(LOSSES)} or a class path."
            f"{nearest(name, LOSSES)}"
        )
    found = LOSSES[name] if name in LOSSES else import_class(name)
    if not issubclass(found, TransferLoss):
        raise ConfigError(f"kt_loss '{name}' must be a subclass of TransferLoss.")
    loss = found()
    loss.temperature = temperature
    return loss
