"""A learned linear map of the profiles, as a part of an embedding table."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from recbole_llmkt.profiles.loading import ProfileVectors
from recbole_llmkt.transfer.inspection.tables import EntityTable
from recbole_llmkt.transfer.methods.folded import Part, flushed
from recbole_llmkt.transfer.targets.build import pca
from recbole_llmkt.transfer.targets.controls import apply_control
from recbole_llmkt.utils.exceptions import ConfigError, ProfileError
from recbole_llmkt.utils.randomness import transfer_seed
from recbole_llmkt.utils.types import IntArray, RunConfig, Settings


class LinearMap(Part):
    r"""P W: the profiles' features times a learned map, so that :math:`E = R + P W`.

    :math:`\partial R = \partial E` and :math:`\partial W = P^\top \partial E`. So what one item
    learns moves all items with a similar profile.

    Parameters
    ----------
    table : EntityTable
        The rows.
    profiles : ProfileVectors
        What the features were made from.
    features : Tensor, shape (n, r)
        P, by internal id: see :func:`profile_features`.
    width : int
        That of the rows.
    rate : float
        W's learning rate, as a share of the optimizer's.
    weight_decay : float, optional
        W's; the optimizer's by default.

    Attributes
    ----------
    weights : nn.Parameter, shape (r, width)
        W; it starts at zero.
    """

    def __init__(
        self,
        table: EntityTable,
        profiles: ProfileVectors,
        features: Tensor,
        width: int,
        rate: float = 1.0,
        weight_decay: float | None = None,
    ) -> None:
        super().__init__(table, profiles)
        self.features, self._rate, self._decay = features, rate, weight_decay
        self.weights = nn.Parameter(features.new_zeros(features.shape[1], width))

    def learned(self) -> list[nn.Parameter]:
        """Return W."""
        return [self.weights]

    def rate(self) -> float:
        """Return W's share of the learning rate (``kt_hybrid_rate``)."""
        return self._rate

    def decay(self) -> float | None:
        """Return W's weight decay (``kt_hybrid_decay``)."""
        return self._decay

    def add_to(self, rows: Tensor, own: Tensor, ids: Tensor | None = None) -> None:
        """Add P W."""
        features = self.features if ids is None else self.features.index_select(0, ids)
        rows.addmm_(features, flushed(self.weights.detach()))

    def take_gradient(self, gradient: Tensor, ids: Tensor | None = None) -> None:
        """Set W's gradient; R's is that of E."""
        if ids is None:
            self.weights.grad = self.features.T @ flushed(gradient)
        else:
            self.weights.grad = self.features.index_select(0, ids).T @ flushed(
                gradient.index_select(0, ids)
            )

    def summary(self) -> Settings:
        """Describe the map."""
        return {
            "features": int(self.weights.shape[0]),
            "map_norm": float(torch.linalg.vector_norm(self.weights.detach())),
        }


def profile_features(config: RunConfig, profiles: ProfileVectors, trained_ids: IntArray) -> Tensor:
    """Return the profile embeddings of a run's users or items as features.

    Parameters
    ----------
    config : Config
        ``kt_hybrid_scale``, ``kt_hybrid_width``, ``kt_control``, ``kt_seed``.
    profiles : ProfileVectors
        Their profiles.
    trained_ids : ndarray of int64
        Who occurs in the training split: mean, directions and length are theirs.

    Returns
    -------
    Tensor of float32, shape (n_entities, r)
        By internal id, centred, on the ``kt_hybrid_width`` directions of largest variance (all
        where it is empty), of length ``kt_hybrid_scale`` on average; zero for the padding id and
        where there is no profile.

    Raises
    ------
    ProfileError
        Nobody with a profile is trained.
    ConfigError
        All profiles are the same.
    """
    trained = np.isin(profiles.ids, trained_ids)
    if not trained.any():
        raise ProfileError(
            f"None of the {len(profiles.ids)} {profiles.entity}s with a profile occurs in the "
            "training split: kt_hybrid has nothing to learn its map from."
        )
    centred = profiles.vectors - profiles.vectors[trained].mean(axis=0)
    width = config["kt_hybrid_width"]
    if width is not None and width < min(centred[trained].shape):
        centred = pca(centred[trained], centred, width, transfer_seed(config))
    length = float(np.sqrt(np.square(centred[trained]).sum(axis=1).mean()))
    if not length > 0:
        raise ConfigError(f"The {profiles.entity} profile embeddings are all the same.")
    scaled = centred * (float(config["kt_hybrid_scale"]) / length)
    rng = np.random.default_rng(transfer_seed(config))
    controlled = apply_control(config["kt_control"], scaled.astype(np.float32), rng)
    features = torch.zeros(profiles.n_entities, scaled.shape[1])
    features[torch.from_numpy(np.asarray(profiles.ids))] = torch.from_numpy(controlled)
    return features


def map_rate(features: Tensor, scale: float) -> float:
    r"""Return the learning rate of a map, as a share of the rows', that moves rows evenly.

    A step of an optimizer like Adam moves each entry of R and W by about its learning rate, so a
    row of P W by at most the rate times :math:`\|p\|_1`. With scale / mean :math:`\|p\|_1` of the
    features (of length ``scale``) that is scale times what R moves, whatever their number.

    Parameters
    ----------
    features : Tensor, shape (n, r)
        Of :func:`profile_features`.
    scale : float
        ``kt_hybrid_scale``.
    """
    lengths = features.abs().sum(dim=1)
    lengths = lengths[lengths > 0]
    return scale / float(lengths.mean()) if len(lengths) else 1.0
