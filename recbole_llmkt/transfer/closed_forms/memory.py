"""Whether a model's matrices of items x items fit into the memory."""

from __future__ import annotations

import psutil
import torch

from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.types import RunConfig

# The most matrices (float32) that lie in memory at once while a model is solved with profiles.
_MATRICES = {"EASE": 2, "SLIMElastic": 2, "ADMMSLIM": 6}
_GIB = 2**30


def check_memory(config: RunConfig, n_items: int) -> None:
    """Refuse a model whose matrices do not fit.

    Parameters
    ----------
    config : RunConfig
        ``model`` and ``device``.
    n_items : int
        Items, the padding id included.

    Raises
    ------
    ConfigError
        What is needed, what is free, and the fix.
    """
    on_device = _MATRICES.get(config["model"], 0)
    device = torch.device(config["device"])
    needs = {device: on_device}
    if device.type != "cpu":  # co-occurrences are counted on the host, and the solution goes there
        needs[torch.device("cpu")] = min(on_device, 2)
    for place, matrices in needs.items():
        needed, free = matrices * 4 * n_items**2, free_memory(place)
        if needed > free:
            raise ConfigError(
                f"{config['model']} needs {needed / _GIB:.1f} GiB of memory ({place.type}) for "
                f"{matrices} matrices of {n_items:,} x {n_items:,} items, and {free / _GIB:.1f} "
                "GiB are free: keep fewer items (item_inter_num_interval: '[5,inf)'), or use "
                "ItemKNN or NCEPLRec."
            )


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
