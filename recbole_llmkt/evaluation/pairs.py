"""Scores of all items for many users, where a model scores pair by pair.

RecBole repeats every user for every item and looks up, joins and multiplies all of that. Here the
model's own ``predict`` sees users x items as two axes instead: what depends on the user alone is
computed once a user, what depends on the item alone once an item, and a linear layer over both
joined is the sum of two smaller ones. Whether that works for a model, and gives the same scores,
is found by trying.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging import getLogger
from typing import Any, cast

import torch
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor, nn
from torch.nn import functional

from recbole_llmkt.compat import ranks_fast
from recbole_llmkt.utils.types import Features, RunConfig

logger = getLogger(__name__)

# Relative to the largest score of a user.
TOLERANCE = 1e-6
# Users, and items, of a square block: on a CPU its intermediate results stay in a core's cache.
_SIDE = {"cpu": 96}
_SIDE_ELSEWHERE = 1024
# What treats every row alone, and keeps rows apart: in one tensor, or between several.
_ROW_BY_ROW = {
    *("embedding", "linear", "batch_norm", "layer_norm", "conv1d", "conv2d"),
    *("relu", "relu_", "leaky_relu", "elu", "gelu", "prelu", "sigmoid", "tanh", "softplus"),
    *("exp", "log", "sqrt", "neg", "abs", "pow", "square", "clamp", "float", "long", "to"),
    *("contiguous", "clone", "detach"),
}
_BETWEEN = {"add", "sub", "mul", "div", "true_divide", "rsub", "matmul", "bmm"}
_ALONG_AN_AXIS = {"sum", "mean", "softmax", "squeeze", "unsqueeze", "norm", "normalize"}


class NotPairwiseError(Exception):
    """The model does something with its rows that two axes do not allow."""


class Pairs:
    """The rows of users x items, as a tensor with an axis for each.

    To ``torch``'s functions it is a tensor of shape (n_users * n_items, ...).

    Attributes
    ----------
    parts : sequence of Tensor, each of shape (n_users or 1, n_items or 1, ...)
        Joined along the last axis. An axis of length 1 holds what is the same along it.
    grid : tuple of int
        ``(n_users, n_items)``.
    """

    def __init__(self, parts: Sequence[Tensor], grid: tuple[int, int]) -> None:
        self.parts = parts
        self.grid = grid

    @property
    def whole(self) -> Tensor:
        """Return the parts joined."""
        if len(self.parts) == 1:
            return self.parts[0]
        return torch.cat(_spread(self.parts), -1)

    @property
    def shape(self) -> torch.Size:
        """Return the shape that the rows would have."""
        first = self.parts[0].shape[2:]
        if len(self.parts) > 1:
            first = torch.Size((*first[:-1], sum(part.shape[-1] for part in self.parts)))
        return torch.Size((math.prod(self.grid), *first))

    @property
    def device(self) -> torch.device:
        """Return the device."""
        return self.parts[0].device

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of the numbers."""
        return self.parts[0].dtype

    def size(self, axis: int | None = None) -> torch.Size | int:
        """Return the shape, or the length of one axis."""
        return self.shape if axis is None else self.shape[axis]

    def dim(self) -> int:
        """Return the number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Iterable[type],
        arguments: Sequence[Any] = (),
        keywords: Mapping[str, Any] | None = None,
    ) -> Pairs:
        return _call(function, function.__name__, arguments, keywords or {})

    def __getattr__(self, name: str) -> Callable[..., Pairs]:
        if name.startswith("__"):
            raise AttributeError(name)
        function = getattr(Tensor, name, None)
        if function is None:
            raise AttributeError(name)
        return lambda *arguments, **keywords: _call(function, name, (self, *arguments), keywords)

    def __add__(self, other: object) -> Pairs:
        return _call(torch.add, "add", (self, other), {})

    def __mul__(self, other: object) -> Pairs:
        return _call(torch.mul, "mul", (self, other), {})

    def __sub__(self, other: object) -> Pairs:
        return _call(torch.sub, "sub", (self, other), {})

    def __truediv__(self, other: object) -> Pairs:
        return _call(torch.div, "div", (self, other), {})

    def __pow__(self, other: object) -> Pairs:
        return _call(torch.pow, "pow", (self, other), {})

    def __neg__(self) -> Pairs:
        return _call(torch.neg, "neg", (self,), {})

    __radd__, __rmul__ = __add__, __mul__


def _call(
    function: Callable[..., Any],
    name: str,
    arguments: Sequence[Any],
    keywords: Mapping[str, Any],
) -> Pairs:
    """Call one of torch's functions on the axes instead of on the rows."""
    if name in ("cat", "concat"):
        return _joined(*arguments, **keywords)
    if name == "dropout" and not (arguments[2] if len(arguments) > 2 else keywords["training"]):
        return cast(Pairs, arguments[0])
    given = [value for value in arguments if isinstance(value, Pairs)]
    if not given or any(isinstance(value, Pairs) for value in keywords.values()):
        raise NotPairwiseError(name)
    if name in _BETWEEN and len(arguments) > 1:
        return _between(function, given, arguments, keywords)
    pairs = given[0]
    if len(given) > 1 or arguments[0] is not pairs:
        raise NotPairwiseError(name)
    if name == "linear" and len(pairs.parts) > 1:
        return _linear(pairs, *arguments[1:], **keywords)
    if name in _ALONG_AN_AXIS:
        _check_axis(pairs, name, arguments[1:], keywords)
    elif name not in _ROW_BY_ROW:
        raise NotPairwiseError(name)
    return _by_row(function, pairs, arguments[1:], keywords)


def _by_row(
    function: Callable[..., Any],
    pairs: Pairs,
    arguments: Sequence[Any],
    keywords: Mapping[str, Any],
) -> Pairs:
    """Apply what treats every row alone to the rows that differ."""
    whole = pairs.whole
    axes = whole.shape[:2]
    result = function(whole.reshape(-1, *whole.shape[2:]), *arguments, **keywords)
    if not isinstance(result, Tensor) or result.dim() == 0 or len(result) != math.prod(axes):
        raise NotPairwiseError(str(function))
    return Pairs([result.view(*axes, *result.shape[1:])], pairs.grid)


def _between(
    function: Callable[..., Any],
    given: Sequence[Pairs],
    arguments: Sequence[Any],
    keywords: Mapping[str, Any],
) -> Pairs:
    """Apply what combines rows with the same place, or all of them with the same tensor."""
    n_axes = given[0].dim()
    others = [value for value in arguments if isinstance(value, Tensor)]
    if any(pairs.dim() != n_axes for pairs in given) or any(
        other.dim() > n_axes or (other.dim() == n_axes and len(other) != 1) for other in others
    ):
        raise NotPairwiseError(str(function))
    if function in (torch.bmm, Tensor.bmm):
        function = torch.matmul
    values = [value.whole if isinstance(value, Pairs) else value for value in arguments]
    return Pairs([function(*values, **keywords)], given[0].grid)


def _joined(tensors: Sequence[Any], dim: int = 0) -> Pairs:
    """Join along an axis; along the last one the parts stay apart."""
    pairs = [value for value in tensors if isinstance(value, Pairs)]
    n_axes = pairs[0].dim()
    if len(pairs) < len(tensors) or any(value.dim() != n_axes for value in pairs):
        raise NotPairwiseError("cat")
    if dim % n_axes == n_axes - 1 and n_axes > 1:
        return Pairs([part for value in pairs for part in value.parts], pairs[0].grid)
    if dim % n_axes == 0:
        raise NotPairwiseError("cat")
    wholes = _spread([value.whole for value in pairs])
    return Pairs([torch.cat(wholes, dim % n_axes + 1)], pairs[0].grid)


def _spread(parts: Sequence[Tensor]) -> list[Tensor]:
    """Give all parts the same first two axes."""
    axes = [max(part.shape[axis] for part in parts) for axis in (0, 1)]
    return [part.expand(*axes, *part.shape[2:]) for part in parts]


def _linear(pairs: Pairs, weight: Tensor, bias: Tensor | None = None) -> Pairs:
    """Apply a linear layer to joined parts, to each its columns of the weight."""
    columns = torch.split_with_sizes(weight, [part.shape[-1] for part in pairs.parts], 1)
    products = [functional.linear(part, own) for part, own in zip(pairs.parts, columns)]
    products.sort(key=lambda product: product.shape[0] * product.shape[1])
    total = products[0] if bias is None else products[0] + bias
    for product in products[1:]:
        total = product.add_(total) if product.shape[:2] == pairs.grid else product + total
    return Pairs([total], pairs.grid)


def _check_axis(
    pairs: Pairs, name: str, arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> None:
    """Refuse the axis of the rows, and all axes at once."""
    place = 1 if name in ("norm", "normalize") else 0
    axis = keywords.get("dim", arguments[place] if len(arguments) > place else None)
    n_axes = pairs.dim() + (name == "unsqueeze")
    if name == "normalize" and axis is None:
        axis = 1
    axes = axis if isinstance(axis, (tuple, list)) else [axis]
    if any(not isinstance(one_axis, int) or one_axis % n_axes == 0 for one_axis in axes):
        raise NotPairwiseError(name)


class _PairFeatures(dict[str, Any]):
    """What ``predict`` reads: columns of users x items."""

    @property
    def interaction(self) -> dict[str, Any]:
        """Return the columns, as RecBole's ``Interaction`` does."""
        return self

    @property
    def columns(self) -> list[str]:
        """Return the names of the columns."""
        return list(self)


class PairRanker:
    """Scores all items for users by a model's ``predict``, if two axes give the same scores.

    Parameters
    ----------
    config : Config
        The run's: ``kt_fast_ranking`` asks for it.
    model : Module
        The model, in evaluation mode whenever it ranks.
    items : Interaction
        The features of all items, item 0 (padding) included, on the model's device.
    """

    def __init__(self, config: RunConfig, model: nn.Module, items: Features) -> None:
        self.model = model
        self.items = items
        own = getattr(type(model), "full_sort_predict", None)
        self._works = (
            None if ranks_fast(config) and own is AbstractRecommender.full_sort_predict else False
        )

    @contextmanager
    def ranking(self, users: Features) -> Iterator[None]:
        """Let the model's ``full_sort_predict`` score these users for the length of the block.

        Where it has its own, or its scores cannot be had this way, nothing changes.

        Parameters
        ----------
        users : Interaction
            A row for each user, on the model's device.
        """
        scores = self.scores(users)
        if scores is not None:
            self.model.full_sort_predict = lambda _: scores  # type: ignore[assignment]
        try:
            yield
        finally:
            vars(self.model).pop("full_sort_predict", None)

    def scores(self, users: Features) -> Tensor | None:
        """Score all items for some users.

        Parameters
        ----------
        users : Interaction
            A row for each user, on the model's device.

        Returns
        -------
        Tensor of float32, shape (n_users, n_items), or None
            None if the model ranks by itself, or its scores cannot be had this way.
        """
        if self._works is None:
            self._works = self._try(users[:1])
        if not self._works:
            return None
        return self._by_blocks(users)

    def _by_blocks(self, users: Features) -> Tensor:
        device = next(values for _, values in _columns(users)).device
        side = _SIDE.get(device.type, _SIDE_ELSEWHERE)
        width = max(side, side * side // len(users))
        items = [self.items[start : start + width] for start in range(0, len(self.items), width)]
        rows = []
        for start in range(0, len(users), side):
            some = users[start : start + side]
            rows.append(torch.cat([self._block(some, block) for block in items], 1))
        return torch.cat(rows)

    def _block(self, users: Features, items: Features) -> Tensor:
        grid = (len(users), len(items))
        columns = {name: Pairs([values[:, None]], grid) for name, values in _columns(users)}
        columns |= {name: Pairs([values[None]], grid) for name, values in _columns(items)}
        scores = self.model.predict(_PairFeatures(columns))  # type: ignore[operator]
        if not isinstance(scores, Pairs) or len(scores.shape) != 1:
            raise NotPairwiseError("the result of predict")
        return scores.whole.expand(grid)

    def _try(self, user: Features) -> bool:
        """Compare with RecBole's way for one user."""
        try:
            scores = self._by_blocks(user)
        except Exception as error:  # of the model's own code, which expects rows
            logger.debug("%s cannot rank by blocks: %r", type(self.model).__name__, error)
            return False
        pairs = user.repeat_interleave(len(self.items))
        pairs.update(self.items)
        expected: Tensor = self.model.predict(pairs).view(1, -1)  # type: ignore[operator]
        largest = max(1.0, float(expected.abs().max()))
        return bool(((scores - expected).abs() <= TOLERANCE * largest).all())


def _columns(features: Features) -> Iterable[tuple[str, Tensor]]:
    return features.interaction.items()
