"""The inverse of a large matrix: in its place, block by block, under a progress bar."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.progress import tqdm

PATIENCE = 2.0  # seconds without a progress bar
_WIDTH = 512  # rows of a block: large enough for fast products, small beside the matrix


def inverse(matrix: Tensor, remedy: str, quiet: bool = True) -> Tensor:
    """Return the inverse of a symmetric positive definite matrix, in its place.

    By Cholesky's factor L, A^-1 = L^-T L^-1 (Golub and Van Loan, "Matrix Computations", section
    4.2). Beside the matrix, memory is needed for a few blocks of its columns alone.

    Parameters
    ----------
    matrix : Tensor, shape (n, n)
        A; it is overwritten.
    remedy : str
        What to do if it cannot be inverted.
    quiet : bool
        Whether to do without a progress bar.

    Raises
    ------
    ConfigError
        It cannot be inverted.
    """
    n = len(matrix)
    blocks = [slice(start, min(start + _WIDTH, n)) for start in range(0, n, _WIDTH)]
    with tqdm(
        total=3 * len(blocks), desc="Inverse", delay=PATIENCE, disable=quiet, ncols=100
    ) as bar:
        try:
            for at, own in enumerate(blocks):
                _factor(matrix, own, blocks[at + 1 :])
                bar.update()
        except RuntimeError as error:
            raise ConfigError(
                f"kt_closed_form: the matrix cannot be inverted: {remedy}."
            ) from error
        for at in reversed(range(len(blocks))):
            _invert_factor(matrix, blocks[at], blocks[at + 1 :])
            bar.update()
        for own in blocks:
            _multiply(matrix, own)
            bar.update()
    return matrix


def _factor(matrix: Tensor, own: slice, later: list[slice]) -> None:
    """Put a block of columns of L in place of A's, and take its part from the later ones."""
    factor = torch.linalg.cholesky(matrix[own, own])
    matrix[own, own] = factor
    below = matrix[own.stop :, own]
    below.copy_(torch.linalg.solve_triangular(factor, below.T, upper=False).T)
    for other in later:
        matrix[other.start :, other].addmm_(
            matrix[other.start :, own], matrix[other, own].T, alpha=-1
        )


def _invert_factor(matrix: Tensor, own: slice, later: list[slice]) -> None:
    """Put a block of columns of L^-1 in place of L's; the later ones hold theirs."""
    unit = torch.eye(own.stop - own.start, dtype=matrix.dtype, device=matrix.device)
    inverted = torch.linalg.solve_triangular(matrix[own, own], unit, upper=False)
    for other in reversed(later):  # from below: each reads what lies above it
        between = slice(own.stop, other.stop)
        matrix[other, own] = matrix[other, between] @ matrix[between, own]
    matrix[own.stop :, own] = matrix[own.stop :, own] @ -inverted
    matrix[own, own] = inverted


def _multiply(matrix: Tensor, own: slice) -> None:
    """Put a block of rows of L^-T L^-1, and its mirror image, in place of those of L^-1."""
    matrix[own, : own.stop] = matrix[own.start :, own].T @ matrix[own.start :, : own.stop]
    matrix[: own.start, own] = matrix[own, : own.start].T
