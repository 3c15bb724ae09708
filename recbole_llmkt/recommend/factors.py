"""User and item vectors of a model whose score is their product, found by experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from recbole_llmkt.utils.types import IntArray

Matrix = npt.NDArray[np.float32]

_PROBED = 4  # users of each of two experiments
# Largest deviation of a score from the product, as a fraction of the range of scores.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Factors:
    """The two factors of a model's scores: ``users @ items.T``.

    Attributes
    ----------
    users : ndarray of float32, shape (n_users, dim)
        In the order of the request.
    items : ndarray of float32, shape (n_items, dim)
        Likewise. If the model adds a bias for each item, the bias is the last column, and the last
        column of ``users`` is 1.
    """

    users: Matrix
    items: Matrix


@dataclass(frozen=True)
class Product:
    """How a model's scores come from a product: ``scale * users @ items.T + bias``.

    Attributes
    ----------
    items : Tensor of float32, shape (n_items, dim)
        The same for all users.
    bias : Tensor of float32, shape (n_items,)
        Zero if the model has none.
    scale : float
        CORE's 1 / temperature; 1 for most models.
    """

    items: Tensor
    bias: Tensor
    scale: float

    @classmethod
    def of(cls, left: Tensor, right: Tensor, scores: Tensor) -> Product | None:
        """Explain scores by a product and a bias for each item; None if that does not explain them.

        Parameters
        ----------
        left : Tensor, shape (n_users, dim)
            Candidates for the users' vectors.
        right : Tensor, shape (n_items, dim)
            Candidates for the items' vectors.
        scores : Tensor, shape (n_users, n_items)
            The model's.
        """
        left, right, scores = left.double(), right.double(), scores.double()
        product = left @ right.T
        # Only the product differs between users.
        moved, by = scores - scores.mean(0), product - product.mean(0)
        if not (torch.isfinite(scores).all() and float(by.abs().max()) > 0):
            return None
        scale = float((moved * by).sum() / by.square().sum())
        bias = (scores - scale * product).mean(0)
        allowed = _TOLERANCE * float(scores.max() - scores.min())
        if float((scale * product + bias - scores).abs().max()) > allowed:
            return None
        if float(bias.abs().max()) <= allowed:
            bias = torch.zeros_like(bias)
        return cls(right.float(), bias.float(), scale)

    def equals(self, other: Product) -> bool:
        """Tell whether item vectors, bias and scale agree with those found for other users."""
        return (
            torch.allclose(self.items, other.items)
            and torch.allclose(self.bias, other.bias, rtol=1e-2, atol=1e-3)
            and abs(self.scale - other.scale) <= _TOLERANCE * abs(self.scale)
        )

    def users(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return the user vectors of a batch: those multiplied with the item vectors.

        Parameters
        ----------
        pairs : sequence of tuple of Tensor
            As of :func:`recorded_scores`.

        Returns
        -------
        Tensor of float32, shape (n_users, dim)
        """
        left, right = pairs[-1]
        if right.shape != self.items.shape or not torch.allclose(right.float(), self.items):
            left, right = right, left  # as many users as items: either could be
        return left.float()

    def factors(self, users: Sequence[Tensor], item_ids: Sequence[int]) -> Factors:
        """Return vectors whose product is the score, with scale and bias folded in.

        Parameters
        ----------
        users : sequence of Tensor
            Batches of :meth:`users`.
        item_ids : sequence of int
            Internal ids.
        """
        left = torch.cat(list(users)) * self.scale
        right = self.items[list(item_ids)]
        if bool(self.bias.any()):
            left = torch.cat([left, torch.ones_like(left[:, :1])], dim=1)
            right = torch.cat([right, self.bias[list(item_ids)].unsqueeze(1)], dim=1)
        return Factors(left.cpu().numpy(), right.cpu().numpy())


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Record the matrix products of shape (n_users, n_items) computed within the block.

    Parameters
    ----------
    n_users, n_items : int
        Rows of the two factors.

    Attributes
    ----------
    pairs : list of tuple of Tensor
        User and item factor of each product, in the order they were computed.
    """

    def __init__(self, n_users: int, n_items: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._shape = (n_users, n_items)
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the operation, and keep the factors if it is such a product."""
        result = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            left, right = args[-2:]
            if tuple(result.shape) == self._shape:
                self.pairs.append((left, right.T))
            elif tuple(result.shape) == self._shape[::-1]:
                self.pairs.append((right.T, left))
        return result


def find_product(ranker: Any, user_ids: Sequence[int]) -> Product | None:
    """Find out whether a model's score is the product of a user vector and an item vector.

    The last matrix product that the model computes while ranking must explain all scores of two
    groups of users with the same item vectors.

    Parameters
    ----------
    ranker : Ranker
        The model.
    user_ids : sequence of int
        Users who can be ranked for.

    Returns
    -------
    Product or None
        None if the score is something else, or there are too few users to tell.
    """
    groups = [list(user_ids[start : start + _PROBED]) for start in (0, _PROBED)]
    if len(groups[1]) < _PROBED:
        groups = [list(user_ids[: len(user_ids) // 2]), list(user_ids[len(user_ids) // 2 :])]
    if min(map(len, groups)) < 2:
        return None
    products = [_last_product(*recorded_scores(ranker, ids)) for ids in groups]
    first, second = products
    if first is None or second is None or not first.equals(second):
        return None
    return first


def recorded_scores(
    ranker: Any, user_ids: Sequence[int] | IntArray
) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Return the products computed for users' scores, and the scores."""
    with torch.no_grad(), Products(len(user_ids), int(ranker.dataset.item_num)) as products:
        scores = ranker.scores(np.array(user_ids, dtype=np.int64))
    return products.pairs, scores


def _last_product(pairs: Sequence[tuple[Tensor, Tensor]], scores: Tensor) -> Product | None:
    return Product.of(*pairs[-1], scores) if pairs else None
