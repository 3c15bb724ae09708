"""Mapped profile embeddings on the disk, so that a slow transform runs once for all runs."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from logging import getLogger
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recbole_llmkt.utils.files import check_regular, exclusive, replace_file

logger = getLogger(__name__)

Matrix = npt.NDArray[np.float32]
# Counts up when the same inputs are to give other numbers.
_FORMAT = 1


def installed_version(library: str) -> str | None:
    """Return the version of an installed package, None where there is none."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def content_digest(
    fit: Matrix, vectors: Matrix, transform: str, width: int, seed: int, library: str
) -> str:
    """Return SHA-256, hex, of all that a transform's result depends on.

    Parameters
    ----------
    fit : ndarray of float32, shape (n_fit, dim_text)
        What the transform is fitted on.
    vectors : ndarray of float32, shape (n_profiles, dim_text)
        What it maps.
    transform : str
        Its name.
    width : int
        Width of the result.
    seed : int
        Its seed.
    library : str
        Name and version of what computes it.
    """
    digest = hashlib.sha256()
    settings = (_FORMAT, transform, width, seed, library, fit.shape)
    digest.update(repr((*settings, vectors.shape)).encode())
    for table in (fit, vectors):
        digest.update(np.ascontiguousarray(table, dtype=np.float32).data)
    return digest.hexdigest()


def cached(
    folder: Path, digest: str, shape: tuple[int, int], compute: Callable[[], Matrix]
) -> Matrix:
    """Return what ``compute`` returned for the same digest, or call it and keep the result.

    A process that finds another one computing the same waits for it. A file that cannot be read,
    or holds another shape, is computed again, with a warning.

    Parameters
    ----------
    folder : Path
        Where the files are; it is made if need be.
    digest : str
        Of :func:`content_digest`.
    shape : tuple of int
        Shape of the result.
    compute : callable
        Returns the result, float32.

    Raises
    ------
    ProfileError
        The folder cannot be written.
    """
    path = folder / f"{digest}.npz"
    with exclusive(folder / f".{digest}.lock", wait=True):
        if path.is_file():
            kept = _read(path, shape)
            if kept is not None:
                logger.info("Targets read from %s.", path)
                return kept
            logger.warning("%s is damaged: computing the targets again.", path)
        values = compute()
        # The zip format brings a checksum.
        content = io.BytesIO()
        np.savez(content, values=values)
        replace_file(path, content.getvalue())
        return values


def _read(path: Path, shape: tuple[int, int]) -> Matrix | None:
    try:
        check_regular(path)
        with np.load(path, allow_pickle=False) as file:
            values: Matrix = file["values"]
        usable = values.shape == shape and values.dtype == np.float32
    except Exception:  # a damaged file makes numpy, zipfile and zlib raise many kinds
        return None
    return values if usable and bool(np.isfinite(values).all()) else None
