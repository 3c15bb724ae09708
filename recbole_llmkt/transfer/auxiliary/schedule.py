"""Phases: how many epochs transfer knowledge, how strongly, and how many fine-tune."""

from __future__ import annotations

import math

from recbole_llmkt.utils.exceptions import ConfigError


def transfer_epochs(epochs: int, length: float, eval_step: int = 0) -> int:
    """Return the number of epochs of phase 1.

    Parameters
    ----------
    epochs : int
        All epochs of the run.
    length : float or int
        ``kt_epochs``: a share of ``epochs`` (float, up to 1.0; below it, both phases get an epoch
        at least) or a count (int).
    eval_step : int
        Epochs between validations; 0 where there are none.

    Raises
    ------
    ConfigError
        A phase would be empty, or phase 2 would end without a validation to choose its best epoch.

    Examples
    --------
    >>> transfer_epochs(70, 0.5), transfer_epochs(70, 10), transfer_epochs(70, 1.0)
    (35, 10, 70)
    """
    count = length if isinstance(length, int) else round(epochs * length)
    if isinstance(length, float) and length < 1.0:
        if epochs < 2:
            raise ConfigError(
                f"epochs: {epochs} with kt_epochs: {length} leaves a phase without epochs: set "
                "epochs to 2 or more, kt_epochs: 1.0 for transfer only, or kt_enabled: False."
            )
        count = min(max(count, 1), epochs - 1)
    if count > epochs:
        raise ConfigError(f"kt_epochs: {count} is more than epochs: {epochs}: lower it.")
    last_validation = epochs // eval_step * eval_step if eval_step else epochs
    if count < epochs and last_validation <= count:
        raise ConfigError(
            f"eval_step: {eval_step} leaves phase 2 (epochs {count + 1} to {epochs}) without a "
            "validation, so its best epoch could not be chosen: lower eval_step."
        )
    return int(count)


def weight_factor(schedule: str, epoch: int, switch: int) -> float:
    r"""Return what the weight of the transfer loss is multiplied with in an epoch of phase 1.

    The weight moves once an epoch: with t the epoch and T the length of phase 1,

    .. math:: a_t = a \cdot \begin{cases} 1 & \text{constant} \\
              1 - t / T & \text{linear} \\
              \tfrac{1}{2} (1 + \cos(\pi t / T)) & \text{cosine} \end{cases}

    It begins with the whole weight and would reach 0 with phase 2, so the switch is no jump.

    Parameters
    ----------
    schedule : str
        ``kt_schedule``: ``constant``, ``linear`` or ``cosine``.
    epoch : int
        The epoch, counted from 0.
    switch : int
        The first epoch of phase 2.

    Examples
    --------
    >>> [weight_factor("linear", epoch, 4) for epoch in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    share = epoch / switch
    factors = {
        "constant": 1.0,
        "linear": 1.0 - share,
        "cosine": (1.0 + math.cos(math.pi * share)) / 2.0,
    }
    return factors[schedule]
