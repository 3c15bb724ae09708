"""What single models of RecBole need beside the others."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def forget_computed(model: nn.Module) -> None:
    """Forget what a model keeps of its own weights, because they have just changed.

    ``kgin.py`` and ``mcclk.py`` keep users' and entities' vectors from one batch of an evaluation
    to the next. Unlike other models they do not name them in ``other_parameter_name``, so after
    loading the best checkpoint stock RecBole tests with the vectors of the last epoch (no upstream
    issue is known).
    """
    named = getattr(model, "other_parameter_name", None) or ()
    for name, value in vars(model).items():
        if name.startswith("restore_") and name not in named and isinstance(value, torch.Tensor):
            setattr(model, name, None)


def trained_parts(config: Any, epoch: int) -> int | None:
    """Return where the trained parts of a model's loss end, as a slice says it; None: all are.

    ``NCLTrainer`` in ``recbole/trainer/trainer.py`` drops the last part during its warm-up.
    """
    return -1 if config["model"] == "NCL" and epoch < config["warm_up_step"] else None
