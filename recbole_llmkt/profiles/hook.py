"""Profiles for a training run: joined by token, checked against the run's training split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ProfileVectors:
    """Profile embeddings of one kind of entity, in RecBole's ids.

    Attributes
    ----------
    entity : str
        ``"user"`` or ``"item"``.
    ids : ndarray of int64, shape (n_profiles,)
        RecBole's internal ids, ascending, without the padding id 0.
    vectors : ndarray of float32, shape (n_profiles, dim_text)
        L2-normalised profile embeddings; row i belongs to ``ids[i]``.
    n_entities : int
        Number of internal ids, the padding id included.
    encoder, generator : str
        What made the vectors and the texts.
    n_leaks : int
        Profiles written from other interactions than this training split (0 unless
        ``profile_allow_leak: True``).
    """

    entity: str
    ids: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    n_entities: int
    encoder: str
    generator: str
    n_leaks: int = 0

    @property
    def coverage(self) -> float:
        """Share of the entities (padding left out) that have a profile."""
        return len(self.ids) / max(1, self.n_entities - 1)
