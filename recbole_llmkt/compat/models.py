"""What single models of RecBole need beside the others."""

from __future__ import annotations

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
