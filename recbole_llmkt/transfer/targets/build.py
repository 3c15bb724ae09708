"""Targets: profile embeddings, mapped once to the width of the tapped layer."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from logging import getLogger

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recbole_llmkt.profiles.loading import ProfileVectors
from recbole_llmkt.transfer.targets.cache import cached, content_digest, installed_version
from recbole_llmkt.transfer.targets.controls import apply_control
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.randomness import isolated_randomness
from recbole_llmkt.utils.types import Settings

Matrix = npt.NDArray[np.float32]
UMAP_SLOW_ROWS = 200_000
# UMAP's own default.
UMAP_NEIGHBOURS = 15
# Above the first number UMAP searches neighbours approximately, and compiles that search in half a
# minute; up to the second an exact search takes a few seconds.
UMAP_EXACT_ROWS = (4096, 20_000)
EXACT_PCA_ROWS = 20_000
# The transforms that take longer than reading their result does, and what computes them. PCA of
# 200,000 rows takes two seconds.
SLOW_TRANSFORMS = {"umap": "umap-learn"}

logger = getLogger(__name__)


@dataclass(frozen=True)
class TargetTable:
    """Targets by RecBole's internal id.

    Attributes
    ----------
    values : Tensor of float32, shape (n_entities, dim)
        Zero where there is no profile; row 0 is RecBole's padding id.
    mask : Tensor of bool, shape (n_entities,)
        True where there is a profile.
    """

    values: Tensor
    mask: Tensor

    @functools.cached_property
    def complete(self) -> bool:
        """Whether all have a profile but the padding id."""
        return bool(self.mask[1:].all())

    @functools.cached_property
    def known(self) -> Tensor:
        """1.0 where there is a profile, else 0.0: shape (n_entities,)."""
        return self.mask.to(torch.float32)

    def to(self, device: torch.device) -> TargetTable:
        """Copy the table to a device."""
        return TargetTable(self.values.to(device), self.mask.to(device))


def pca(fit: Matrix, vectors: Matrix, width: int, seed: int, whiten: bool = False) -> Matrix:
    """Project on the directions of largest variance."""
    from sklearn.decomposition import PCA

    # Exact where it is cheap; scikit-learn's own choice where there are many rows.
    solver = "full" if len(fit) <= EXACT_PCA_ROWS else "auto"
    fitted = PCA(width, whiten=whiten, random_state=seed, svd_solver=solver).fit(fit)
    mapped: Matrix = fitted.transform(vectors)
    return mapped


def _pca_whiten(fit: Matrix, vectors: Matrix, width: int, seed: int) -> Matrix:
    """Project as ``pca`` does, then scale every direction to unit variance."""
    return pca(fit, vectors, width, seed, whiten=True)


def _random(fit: Matrix, vectors: Matrix, width: int, seed: int) -> Matrix:
    """Project with Gaussian directions (Johnson and Lindenstrauss, 1984)."""
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((vectors.shape[1], width), dtype=np.float32)
    mapped: Matrix = vectors @ (directions / np.sqrt(width))
    return mapped


def _umap(fit: Matrix, vectors: Matrix, width: int, seed: int) -> Matrix:
    """Embed with UMAP (McInnes et al., 2018), the paper's choice."""
    try:
        from umap import UMAP
    except ImportError as error:
        raise ConfigError(
            "kt_transform: umap needs the package umap-learn: pip install 'recbole_llmkt[umap]', "
            "or set kt_transform: pca."
        ) from error
    if len(fit) > UMAP_SLOW_ROWS:
        logger.warning("UMAP of %d profiles takes long: kt_transform: pca takes seconds.", len(fit))
    settings: Settings = {"n_components": width, "random_state": seed, "n_jobs": 1}
    if fit is vectors and UMAP_EXACT_ROWS[0] <= len(fit) <= UMAP_EXACT_ROWS[1]:
        settings["precomputed_knn"] = _neighbours(fit)
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            # It warns that no other vectors can be mapped later; none are.
            warnings.filterwarnings("ignore", message="precomputed_knn")
            umap = UMAP(**settings).fit(fit)
        mapped: Matrix = umap.embedding_ if fit is vectors else umap.transform(vectors)
    finally:
        # UMAP's compiler, numba, sets the threads of the OpenMP that torch trains with, too.
        torch.set_num_threads(threads)
    return mapped


def _neighbours(vectors: Matrix) -> tuple[npt.NDArray[np.int64], Matrix]:
    """Return the indices and distances of the nearest vectors, each one itself among them."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=UMAP_NEIGHBOURS, algorithm="brute").fit(vectors)
    distances, indices = search.kneighbors(vectors)
    return indices, distances


def _none(fit: Matrix, vectors: Matrix, width: int, seed: int) -> Matrix:
    """Leave the profile embeddings as they are."""
    return vectors


TRANSFORMS: dict[str, Callable[[Matrix, Matrix, int, int], Matrix]] = {
    "pca": pca,
    "pca_whiten": _pca_whiten,
    "umap": _umap,
    "random": _random,
    "none": _none,
}


def _check_width(name: str, shape: tuple[int, ...], width: int) -> None:
    n_profiles, dim_text = shape
    if name == "none" and width != dim_text:
        raise ConfigError(
            f"kt_transform: none keeps the profile embeddings {dim_text} wide, but the target must "
            f"be {width} wide. Use kt_projector: linear (its target is {dim_text} wide), another "
            f"kt_transform, or a layer {dim_text} wide."
        )
    # Centred vectors span one direction fewer than there are of them; whitening would blow that up.
    spanned = min(max(0, n_profiles - (name == "pca_whiten")), dim_text)
    if name.startswith("pca") and width > spanned:
        raise ConfigError(
            f"kt_transform: {name} cannot make targets {width} wide from {n_profiles} profile "
            f"embeddings {dim_text} wide. Use a layer at most {spanned} wide, "
            "kt_transform: random, or kt_projector: linear with a smaller kt_projector_dim."
        )
    if name == "umap" and width > n_profiles - 2:
        raise ConfigError(
            f"kt_transform: umap needs more profiles than dimensions plus one: {n_profiles} "
            f"profiles cannot be mapped to a width of {width}. Use kt_transform: random."
        )


def widest(
    transform: str,
    profiles: ProfileVectors,
    width: int,
    trained_ids: npt.NDArray[np.int64] | None = None,
) -> int:
    """Return the largest width up to ``width`` that a transform gives; see `build_targets`."""
    n_profiles, dim_text = profiles.vectors.shape
    if trained_ids is not None:
        n_profiles = int(np.isin(profiles.ids, trained_ids).sum())
    limits: dict[str, int] = {
        # Centred vectors span one direction fewer than there are of them.
        "pca": min(n_profiles - 1, dim_text),
        "pca_whiten": min(n_profiles - 1, dim_text),
        "umap": n_profiles - 2,
        "none": dim_text,
    }
    return max(1, min(width, limits.get(transform, width)))


def _map(transform: str, profiles: ProfileVectors, fit: Matrix, width: int, seed: int) -> Matrix:
    """Apply a transform, or read what it gave for the same vectors, width and seed before."""

    def compute() -> Matrix:
        with isolated_randomness(seed):
            mapped = TRANSFORMS[transform](fit, profiles.vectors, width, seed)
        return np.ascontiguousarray(mapped, dtype=np.float32)

    library = SLOW_TRANSFORMS.get(transform, "")
    release = installed_version(library) if library else None
    if profiles.home is None or release is None:
        return compute()
    made_by = f"{library} {release}"
    digest = content_digest(fit, profiles.vectors, transform, width, seed, made_by)
    shape = (len(profiles.vectors), width)
    return cached(profiles.home / "targets", digest, shape, compute)


def build_targets(
    profiles: ProfileVectors,
    width: int,
    transform: str,
    control: str = "none",
    seed: int = 0,
    trained_ids: npt.NDArray[np.int64] | None = None,
) -> TargetTable:
    """Map profile embeddings to targets.

    Parameters
    ----------
    profiles : ProfileVectors
        Profile embeddings of the run's users or items.
    width : int
        Width of the targets.
    transform : str
        ``pca``, ``pca_whiten``, ``umap``, ``random`` or ``none``.
    control : str
        ``none``, ``shuffled`` or ``random``.
    seed : int
        Seed of transform and control; the global random streams are left alone.
    trained_ids : ndarray of int64, optional
        Ids that occur in the training split: the transform is fitted on their profiles only.
        By default on all profiles.

    Returns
    -------
    TargetTable
        On the CPU.

    Raises
    ------
    ConfigError
        The transform cannot give that width.
    """
    vectors = fit = profiles.vectors
    if trained_ids is not None:
        trained = np.isin(profiles.ids, trained_ids)
        fit = vectors if trained.all() else vectors[trained]
    _check_width(transform, fit.shape, width)
    mapped = _map(transform, profiles, fit, width, seed)
    if mapped.shape != (len(profiles.ids), width) or not np.isfinite(mapped).all():
        raise ConfigError(
            f"kt_transform: {transform} gave {mapped.shape} values, not all of them numbers, where "
            f"({len(profiles.ids)}, {width}) were needed: the profile embeddings may be constant."
        )
    mapped = apply_control(control, mapped, np.random.default_rng(seed))
    values = torch.zeros(profiles.n_entities, width)
    mask = torch.zeros(profiles.n_entities, dtype=torch.bool)
    ids = torch.from_numpy(np.asarray(profiles.ids))
    values[ids] = torch.from_numpy(mapped)
    mask[ids] = True
    return TargetTable(values, mask)
