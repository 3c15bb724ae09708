"""The mean of the nearest users or items by profile, as a part of an embedding table."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from recbole_llmkt.profiles.loading import ProfileVectors
from recbole_llmkt.transfer.inspection.tables import EntityTable
from recbole_llmkt.transfer.methods.folded import Part, flushed
from recbole_llmkt.transfer.targets.controls import apply_control
from recbole_llmkt.utils.exceptions import ProfileError
from recbole_llmkt.utils.randomness import transfer_seed
from recbole_llmkt.utils.types import IntArray, RunConfig, Settings

_BLOCK = 2**26  # similarities at once: 256 MiB
_PATIENCE = 2.0  # seconds without a progress bar


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
    mean : Tensor, sparse, shape (n, n)
        S: see :func:`neighbour_mean`.
    transposed : Tensor, sparse, shape (n, n)
        Its transpose.
    share : float
        a.
    """

    def __init__(
        self,
        table: EntityTable,
        profiles: ProfileVectors,
        mean: Tensor,
        transposed: Tensor,
        share: float,
    ) -> None:
        super().__init__(table, profiles)
        self.mean, self.transposed, self.share = mean, transposed, share

    def add_to(self, rows: Tensor, own: Tensor, ids: Tensor | None = None) -> None:
        """Add a S R."""
        if ids is None:
            torch.addmm(rows, self.mean, flushed(own), alpha=self.share, out=rows)
            return
        links, shares = (padded.index_select(0, ids) for padded in self._padded)
        rows += nn.functional.embedding_bag(links, own, mode="sum", per_sample_weights=shares)

    def take_gradient(self, gradient: Tensor, ids: Tensor | None = None) -> None:
        """Add what flows to a row from those that it is a neighbour of."""
        if ids is None:
            # A product may not be written to what it is computed from.
            gradient.add_(self.transposed @ flushed(gradient), alpha=self.share)
            return
        taken = flushed(gradient.index_select(0, ids))
        links, shares = (padded.index_select(0, ids) for padded in self._padded)
        for place in range(links.shape[1]):  # all at once are more than a processor's cache holds
            gradient.index_add_(0, links[:, place], taken * shares[:, place : place + 1])

    @functools.cached_property
    def _padded(self) -> tuple[Tensor, Tensor]:
        """The neighbours of each row, and a times their weights; 0 where there are fewer."""
        counts = self.mean.crow_indices().diff()
        filled = torch.arange(int(counts.max()), device=counts.device) < counts.unsqueeze(1)
        links = torch.zeros_like(filled, dtype=torch.int64)
        shares = torch.zeros_like(filled, dtype=self.mean.dtype)
        links[filled], shares[filled] = self.mean.col_indices(), self.share * self.mean.values()
        return links, shares

    def summary(self) -> Settings:
        """Describe the neighbourhoods."""
        filled = int((self.mean.crow_indices().diff() > 0).sum())
        links = int(self.mean.values().numel())
        return {"neighbours": links / max(1, filled), "rows": filled, "share": self.share}


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


def neighbour_mean(neighbours: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the matrix that takes the mean of each row's neighbours, and its transpose.

    Parameters
    ----------
    neighbours : Tensor of int64, shape (n, k)
        Of :func:`nearest_neighbours`.
    like : Tensor
        Whose dtype and device the matrices have.

    Returns
    -------
    tuple of two Tensor, sparse (CSR), shape (n, n)
        The rows of those without neighbours are empty.
    """
    n = len(neighbours)
    rows, places = neighbours.nonzero(as_tuple=True)
    columns = neighbours[rows, places]
    counts = (neighbours > 0).sum(dim=1)
    values = 1.0 / counts[rows].to(like)
    links = torch.stack([rows, columns])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls CSR a beta, and checks nothing
        mean = torch.sparse_coo_tensor(links, values, (n, n)).coalesce()
        return mean.to_sparse_csr(), mean.t().coalesce().to_sparse_csr()
