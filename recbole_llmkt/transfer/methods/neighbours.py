"""The mean of the nearest users or items by profile, as a part of an embedding table."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor, nn

from recbole_llmkt.profiles.loading import ProfileVectors
from recbole_llmkt.transfer.inspection.tables import EntityTable
from recbole_llmkt.transfer.methods.folded import Part, flushed
from recbole_llmkt.transfer.targets.controls import apply_control
from recbole_llmkt.utils.exceptions import ProfileError
from recbole_llmkt.utils.progress import tqdm
from recbole_llmkt.utils.randomness import transfer_seed
from recbole_llmkt.utils.types import IntArray, RunConfig, Settings

_BLOCK = 2**26  # similarities at once: 256 MiB
_PATIENCE = 2.0  # seconds without a progress bar
# Where fewer than one row in so many has a gradient, to scatter those is quicker than a product.
_FEW = 8


class NeighbourMean:
    """S, the matrix that takes the mean of each row's neighbours.

    Parameters
    ----------
    neighbours : Tensor of int64, shape (n, k)
        Of :func:`nearest_neighbours`.
    like : Tensor
        Whose dtype and device the weights have.

    Attributes
    ----------
    neighbours : Tensor of int64, shape (n, k)
        As given.
    weights : Tensor, shape (n, k)
        1 over the number of a row's neighbours; 0 where there are fewer than k.
    """

    def __init__(self, neighbours: Tensor, like: Tensor) -> None:
        known = neighbours > 0
        self.neighbours = neighbours
        self.weights = known.to(like) / known.sum(1, keepdim=True).clamp_min(1)

    def of(self, rows: Tensor, ids: Tensor | None = None) -> Tensor:
        """Return the mean of the neighbours' rows, for all or for some ids."""
        neighbours, weights = self.neighbours, self.weights
        if ids is not None:
            neighbours, weights = neighbours.index_select(0, ids), weights.index_select(0, ids)
        # A sparse product takes twice as long.
        return nn.functional.embedding_bag(neighbours, rows, mode="sum", per_sample_weights=weights)

    def transposed(self, rows: Tensor) -> Tensor:
        """Return, for each id, what flows to it from the rows that it is a neighbour of."""
        holders, starts, weights = self._holders
        return nn.functional.embedding_bag(
            holders, rows, starts, mode="sum", per_sample_weights=weights
        )

    def scatter(self, rows: Tensor, ids: Tensor, into: Tensor) -> None:
        """Add what flows from the rows of some ids to their neighbours."""
        neighbours = self.neighbours.index_select(0, ids)
        weights = self.weights.index_select(0, ids)
        for place in range(neighbours.shape[1]):  # all are more than a processor's cache holds
            into.index_add_(0, neighbours[:, place], rows * weights[:, place : place + 1])

    @functools.cached_property
    def _holders(self) -> tuple[Tensor, Tensor, Tensor]:
        """Whose neighbour each id is, one after the other; where its part begins; the weights."""
        n = len(self.neighbours)
        rows, places = self.neighbours.nonzero(as_tuple=True)
        ids, order = self.neighbours[rows, places].sort(stable=True)
        counts = torch.bincount(ids, minlength=n)
        return rows[order], counts.cumsum(0) - counts, self.weights[rows, places][order]


class Neighbours(Part):
    r"""a S R: a share of the mean of the nearest rows, so that :math:`E = R + a S R`.

    S has 1/k in row i at the k nearest neighbours of i (:func:`nearest_neighbours`), and nothing is
    learned beside R: :math:`\partial R = (I + a S)^\top \partial E`.

    Parameters
    ----------
    table : EntityTable
        The rows.
    profiles : ProfileVectors
        What the neighbours were found by.
    mean : NeighbourMean
        S.
    share : float
        a.
    """

    def __init__(
        self, table: EntityTable, profiles: ProfileVectors, mean: NeighbourMean, share: float
    ) -> None:
        super().__init__(table, profiles)
        self.mean, self.share = mean, share

    def add_to(self, rows: Tensor, own: Tensor, ids: Tensor | None = None) -> None:
        """Add a S R."""
        rows.add_(self.mean.of(own, ids), alpha=self.share)

    def take_gradient(self, gradient: Tensor, ids: Tensor | None = None) -> None:
        """Add what flows to a row from those that it is a neighbour of."""
        if ids is None:
            ids = gradient.abs().amax(1).nonzero().flatten()
        if len(ids) * _FEW < len(gradient):
            taken = self.share * flushed(gradient.index_select(0, ids))
            self.mean.scatter(taken, ids, gradient)
        else:
            gradient.add_(self.mean.transposed(flushed(gradient)), alpha=self.share)

    def summary(self) -> Settings:
        """Describe the neighbourhoods."""
        known = self.mean.neighbours > 0
        filled = int(known.any(1).sum())
        return {
            "neighbours": int(known.sum()) / max(1, filled),
            "rows": filled,
            "share": self.share,
        }


def nearest_neighbours(
    config: RunConfig, profiles: ProfileVectors, trained_ids: IntArray, device: torch.device
) -> Tensor:
    """Find the nearest neighbours of a run's users or items by cosine of their profiles.

    Neighbours are exact, and trained ones only: the row of a user or item without training
    interactions is noise. Such users and items have neighbours themselves, which give them their
    rows.

    Parameters
    ----------
    config : Config
        ``kt_neighbours``, ``kt_control``, ``kt_seed``, ``show_progress``.
    profiles : ProfileVectors
        Their profiles.
    trained_ids : ndarray of int64
        Who occurs in the training split.
    device : torch.device
        Where to compute.

    Returns
    -------
    Tensor of int64, shape (n_entities, k)
        By internal id; 0, the padding id, stands for nobody. k is ``kt_neighbours``, or fewer
        where fewer are trained.

    Raises
    ------
    ProfileError
        Fewer than two of them have a profile and are trained.
    """
    trained = np.isin(profiles.ids, trained_ids)
    if trained.sum() < 2:
        raise ProfileError(
            f"Of the {len(profiles.ids)} {profiles.entity}s with a profile {trained.sum()} occur "
            "in the training split: kt_hybrid: neighbours needs two or more."
        )
    rng = np.random.default_rng(transfer_seed(config))
    controlled = apply_control(config["kt_control"], profiles.vectors, rng)
    vectors = torch.nn.functional.normalize(torch.from_numpy(controlled).to(device), dim=1)
    ids = torch.from_numpy(np.asarray(profiles.ids)).to(device)
    candidates = torch.from_numpy(np.flatnonzero(trained)).to(device)
    k = min(int(config["kt_neighbours"]), len(candidates))
    neighbours = ids.new_zeros(profiles.n_entities, k)
    size = max(1, _BLOCK // len(candidates))
    known = vectors[candidates].T.contiguous()
    own_column = torch.full_like(ids, -1)
    own_column[candidates] = torch.arange(len(candidates), device=device)
    blocks = range(0, len(ids), size)
    title = f"Nearest {profiles.entity}s"
    quiet = not config["show_progress"]
    for start in tqdm(blocks, desc=title, delay=_PATIENCE, disable=quiet, ncols=100):
        similarity = vectors[start : start + size] @ known
        columns = own_column[start : start + size]
        rows = (columns >= 0).nonzero().flatten()
        similarity[rows, columns[rows]] = -torch.inf
        values, places = similarity.topk(k, dim=1)
        nearest = ids[candidates[places]].masked_fill(values == -torch.inf, 0)
        neighbours[ids[start : start + size]] = nearest
    return neighbours
