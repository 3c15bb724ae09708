"""User and item vectors of models that score by an inner product, found by experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from recbole_llmkt.utils.types import IntArray

Matrix = npt.NDArray[np.float32]

_PROBED = 4  # users in each of two experiments
_COMPARED = 1024  # at least so many item vectors, or all
# Largest deviation of a score from the product, as a share of the scores' range.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Factors:
    """Vectors whose inner products are a model's scores: ``users @ items.T``.

    Attributes
    ----------
    users : ndarray of float32, shape (n_users, dim)
        In the order of the request.
    items : ndarray of float32, shape (n_items, dim)
        In the order of the request. If the model adds a bias per item, it is the last column, and
        the users' last column is 1.
    """

    users: Matrix
    items: Matrix


@dataclass(frozen=True)
class Product:
    """How a model scores: ``scale * users @ items.T + bias``.

    Attributes
    ----------
    items : Tensor of float32, shape (n_items, dim)
        The same for all users.
    bias : Tensor of float32, shape (n_items,)
        Zero where there is none.
    scale : float
        CORE's 1 / temperature; 1 for most models.
    number : int
        How many matrix products with these item vectors a batch computes; the last one counts.
    """

    items: Tensor
    bias: Tensor
    scale: float
    number: int = 1

    @classmethod
    def of(cls, left: Tensor, right: Tensor, scores: Tensor) -> Product | None:
        """Fit scores by a product and a bias per item; None if they are something else.

        Parameters
        ----------
        left : Tensor, shape (n_users, dim)
            Candidates for the users' vectors.
        right : Tensor, shape (n_items, dim)
            Candidates for the items'.
        scores : Tensor, shape (n_users, n_items)
            The model's scores.
        """
        left, right, scores = left.double(), right.double(), scores.double()
        product = left @ right.T
        # A bias is the same for all users, so differences between users come from the product.
        score_moves, product_moves = scores - scores.mean(0), product - product.mean(0)
        if not (torch.isfinite(scores).all() and float(product_moves.abs().max()) > 0):
            return None
        scale = float((score_moves * product_moves).sum() / product_moves.square().sum())
        bias = (scores - scale * product).mean(0)
        allowed = _TOLERANCE * float(scores.max() - scores.min())
        if float((scale * product + bias - scores).abs().max()) > allowed:
            return None
        if float(bias.abs().max()) <= allowed:
            bias = torch.zeros_like(bias)
        return cls(right.float(), bias.float(), scale)

    def equals(self, other: Product) -> bool:
        """Whether two groups of users share item vectors, bias and scale."""
        return (
            torch.allclose(self.items, other.items)
            and torch.allclose(self.bias, other.bias, rtol=1e-2, atol=1e-3)
            and abs(self.scale - other.scale) <= _TOLERANCE * abs(self.scale)
            and self.number == other.number
        )

    def has_items(self, factor: Tensor) -> bool:
        """Whether a factor of a matrix product holds these item vectors, by up to 2,048 of them.

        To compare all of a large catalogue for every batch would take longer than the product.
        """
        step = max(1, len(self.items) // _COMPARED)
        return factor.shape == self.items.shape and torch.allclose(
            factor[::step].float(), self.items[::step]
        )

    def users(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return a batch's user vectors: the factor that was multiplied by the item vectors.

        Parameters
        ----------
        pairs : sequence of tuple of Tensor
            See :class:`Products`.

        Returns
        -------
        Tensor of float32, shape (n_users, dim)
        """
        left, right = pairs[-1]
        if not self.has_items(right):
            left, right = right, left  # with as many users as items, either may be first
        return left.float()

    def factors(self, users: Sequence[Tensor], item_ids: Sequence[int]) -> Factors:
        """Return vectors whose inner product is the score, scale and bias included.

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
    """Record the matrix products of shape (n_users, n_items) that are computed in the block.

    Parameters
    ----------
    n_users, n_items : int
        Rows of the two factors.
    target : Product, optional
        The block ends just before this product is computed: user vectors need no scores.

    Attributes
    ----------
    pairs : list of tuple of Tensor
        The users' and the items' factor of each product, in order.
    """

    def __init__(self, n_users: int, n_items: int, target: Product | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._shape, self._target = (n_users, n_items), target
        self._n_passed = 0
        self.pairs: list[tuple[Tensor, Tensor]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and importing the compiler takes seconds

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the operation; if it is such a product, keep its factors."""
        if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            left, right = args[-2:]
            shape = (left.shape[0], right.shape[1])
            if shape == self._shape:
                self._record(left, right.T)
            elif shape == self._shape[::-1]:
                self._record(right.T, left)
        return func(*args, **(kwargs or {}))

    def _record(self, users: Tensor, items: Tensor) -> None:
        self.pairs.append((users, items))
        if self._target is not None:
            self._n_passed += any(self._target.has_items(factor) for factor in (items, users))
            if self._n_passed == self._target.number:
                raise _TargetReached

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        """End the block; reaching the target is no error."""
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        return kind is _TargetReached


class _TargetReached(Exception):  # noqa: N818 - it ends a block, and is no error
    """The factors of the target are known."""


def find_product(ranker: Any, user_ids: Sequence[int]) -> Product | None:
    """Find out whether a model's score is an inner product of a user vector and an item vector.

    The last matrix product of the ranking must explain all scores of two groups of users with the
    same item vectors.

    Parameters
    ----------
    ranker : Ranker
        The model.
    user_ids : sequence of int
        Users for whom the model can rank.

    Returns
    -------
    Product or None
        None if the score is something else, or if there are too few users to tell.
    """
    groups = [list(user_ids[start : start + _PROBED]) for start in (0, _PROBED)]
    if len(groups[1]) < _PROBED:
        groups = [list(user_ids[: len(user_ids) // 2]), list(user_ids[len(user_ids) // 2 :])]
    if min(map(len, groups)) < 2:
        return None
    products = [_last_product(ranker, ids) for ids in groups]
    first, second = products
    if first is None or second is None or not first.equals(second):
        return None
    return first


def user_vectors(ranker: Any, product: Product, user_ids: IntArray) -> Tensor:
    """Return a batch's user vectors without computing the scores.

    Parameters
    ----------
    ranker : Ranker
        The model.
    product : Product
        How it scores.
    user_ids : ndarray of int64, shape (n_users,)
        Internal ids.

    Returns
    -------
    Tensor of float32, shape (n_users, dim)
    """
    shape = (len(user_ids), int(ranker.dataset.item_num))
    with torch.no_grad(), Products(*shape, product) as products:
        ranker.scores(user_ids)
    return product.users(products.pairs)


def _last_product(ranker: Any, user_ids: Sequence[int]) -> Product | None:
    with torch.no_grad(), Products(len(user_ids), int(ranker.dataset.item_num)) as products:
        scores = ranker.scores(np.array(user_ids, dtype=np.int64))
    if not products.pairs:
        return None
    left, right = products.pairs[-1]
    product = Product.of(left, right, scores)
    if product is None:
        return None
    same = [pair for pair in products.pairs if any(map(product.has_items, pair))]
    return replace(product, number=len(same))
