"""The device that ``profile_device`` names."""

from __future__ import annotations

import torch

from recbole_llmkt.utils.exceptions import ConfigError


def chosen_device(name: str) -> torch.device:
    """Return a device that works here; ``auto`` takes the first of cuda, mps and cpu.

    Raises
    ------
    ConfigError
        The device cannot be used on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(
            f"profile_device: {name} cannot be used here: {reason}. Choose auto or cpu."
        ) from error
