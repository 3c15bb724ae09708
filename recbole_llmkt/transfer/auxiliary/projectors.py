"""Projectors: learned maps that make hidden states and targets comparable."""

from __future__ import annotations

from torch import nn

# The projector that maps the target, not the hidden state.
PROFILE_SIDE = "profile_mlp"


def make_projector(name: str, width: int, target_width: int) -> nn.Module | None:
    """Make a projector.

    Parameters
    ----------
    name : str
        On the student's side: ``none``; ``linear``; ``mlp``: one hidden layer, as wide as the
        target, with GELU. On the profile's side, for losses that contrast: ``profile_mlp``, one
        hidden layer, half-way between both widths, with LeakyReLU, as in RLMRec-Con
        (arXiv 2310.15950).
    width : int
        Width of the hidden state.
    target_width : int
        Width of the target.

    Returns
    -------
    nn.Module or None
        Maps (n, width) to (n, target_width), ``profile_mlp`` the other way; None for ``none``.

    Notes
    -----
    Under a loss that only draws states to targets the target stays fixed: a learned map of the
    *target* would have a collapsed minimum, all of them in one point. A contrast has none there.
    """
    if name == "none":
        return None
    if name == "linear":
        return nn.Linear(width, target_width)
    if name == PROFILE_SIDE:
        between = (width + target_width) // 2
        return nn.Sequential(
            nn.Linear(target_width, between), nn.LeakyReLU(), nn.Linear(between, width)
        )
    return nn.Sequential(
        nn.Linear(width, target_width), nn.GELU(), nn.Linear(target_width, target_width)
    )
