"""Projectors: the learned map from the hidden state's width to the target's."""

from __future__ import annotations

from torch import nn


def make_projector(name: str, width: int, target_width: int) -> nn.Module | None:
    """Make a projector on the student's side.

    Parameters
    ----------
    name : str
        ``none``; ``linear``; ``mlp``: one hidden layer, as wide as the target, with GELU.
    width : int
        Width of the hidden state.
    target_width : int
        Width of the target.

    Returns
    -------
    nn.Module or None
        Maps (n, width) to (n, target_width); None for ``none``.

    Notes
    -----
    The target stays fixed: a learned map of the *target* under a squared error has a collapsed
    minimum.
    """
    if name == "none":
        return None
    if name == "linear":
        return nn.Linear(width, target_width)
    return nn.Sequential(
        nn.Linear(width, target_width), nn.GELU(), nn.Linear(target_width, target_width)
    )
