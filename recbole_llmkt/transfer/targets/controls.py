"""Controls: break the knowledge on purpose and change nothing else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recbole_llmkt.utils.exceptions import ConfigError

Matrix = npt.NDArray[np.float32]


def apply_control(name: str, targets: Matrix, rng: np.random.Generator) -> Matrix:
    """Return the targets of a control arm.

    Parameters
    ----------
    name : str
        ``none``; ``shuffled``: every entity gets another's target; ``random``: Gaussian
        targets with the mean and covariance of the true ones.
    targets : ndarray of float32, shape (n_profiles, dim)
        The true targets.
    rng : Generator
        Where the randomness comes from.

    Returns
    -------
    ndarray of float32, shape (n_profiles, dim)

    Raises
    ------
    ConfigError
        There is only one profile, so there is nothing to shuffle; or ``zero``, which makes no
        targets.
    """
    if name == "none":
        return targets
    if name == "zero":
        raise ConfigError(
            "kt_control: zero is for kt_method: kar alone, without kt_init, kt_hybrid and "
            "kt_cold_start: targets of zero would only shrink what they are compared with. Use "
            "kt_control: shuffled or random."
        )
    if len(targets) < 2:
        raise ConfigError(
            f"kt_control: {name} needs two profiles or more, and there is only one: write more "
            "profiles, or set kt_control: none."
        )
    if name == "shuffled":
        # One cycle through a random order: no entity keeps its own target.
        order = rng.permutation(len(targets))
        shuffled = np.empty_like(targets)
        shuffled[order] = targets[np.roll(order, 1)]
        return shuffled
    centre = targets.mean(axis=0)
    covariance = np.cov(targets, rowvar=False).reshape(targets.shape[1], targets.shape[1])
    variances, directions = np.linalg.eigh(covariance)
    spread = directions * np.sqrt(np.clip(variances, 0.0, None))
    noise = rng.standard_normal(targets.shape)
    drawn: Matrix = (centre + noise @ spread.T).astype(np.float32)
    return drawn
