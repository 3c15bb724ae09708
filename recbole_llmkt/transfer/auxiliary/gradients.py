"""How strongly the transfer loss pulls, by the gradients that a training step computes anyway."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

# What is left of equal gradients after float32 has rounded their difference, relative to them.
_ROUNDING = 1e-6


class GradientRatio:
    """Norm of the transfer loss's gradient over that of the model's own loss.

    Both are taken at the parameters that the two losses share. The transfer loss's gradient is
    computed at once; the model's is what the step's backward pass brings beyond it. Nothing that
    is trained changes.

    Parameters
    ----------
    transfer : Tensor, shape ()
        The weighted transfer loss, as it enters the sum that is trained.
    parameters : sequence of Parameter
        The shared parameters.

    Attributes
    ----------
    value : float or None
        The ratio, once :meth:`close` has been called; None where the model's gradient is zero.
    """

    def __init__(self, transfer: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        self.value: float | None = None
        self._scale: Tensor | float = 1.0
        self._own = torch.zeros((), device=transfer.device)
        self._handles: list[RemovableHandle] = []
        pulls: Sequence[Tensor | None] = [None] * len(parameters)
        if transfer.requires_grad and parameters:
            pulls = torch.autograd.grad(transfer, parameters, retain_graph=True, allow_unused=True)
            self._watch(transfer, self._keep_scale)
        self._pull = sum((_square(pull) for pull in pulls if pull is not None), self._own)
        for parameter, pull in zip(parameters, pulls):
            self._watch(parameter, self._adding(pull))

    def _watch(self, tensor: Tensor, hook: Callable[[Tensor], None]) -> None:
        self._handles.append(tensor.register_hook(hook))  # type: ignore[no-untyped-call]

    def _keep_scale(self, gradient: Tensor) -> None:
        """Keep what all losses are multiplied with (for gradients in half precision)."""
        self._scale = gradient.detach()

    def _adding(self, pull: Tensor | None) -> Callable[[Tensor], None]:
        def add(gradient: Tensor) -> None:
            own = gradient.detach() / self._scale
            self._own = self._own + _square(own if pull is None else own - pull)

        return add

    def close(self) -> None:
        """Stop watching after the step, and compute the ratio."""
        for handle in self._handles:
            handle.remove()
        if self._handles:
            pull, own = float(self._pull) ** 0.5, float(self._own) ** 0.5
            self.value = pull / own if own > _ROUNDING * pull else None
        self._handles = []


def _square(gradient: Tensor) -> Tensor:
    square: Tensor = torch.linalg.vector_norm(gradient.float()).square()
    return square
