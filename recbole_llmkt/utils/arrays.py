"""Files of named arrays (``.npz``): read without trusting them, written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recbole_llmkt.utils.exceptions import DataError, reason_of
from recbole_llmkt.utils.files import check_regular, replace_file

Arrays = dict[str, npt.NDArray[np.generic]]


def read_arrays(path: Path, fix: str) -> Arrays:
    """Read all arrays of an ``.npz`` file; nothing in it is unpickled.

    Parameters
    ----------
    path : Path
        The file.
    fix : str
        What to do if it cannot be read: a sentence.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    try:
        check_regular(path)
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # whatever a damaged file makes numpy, zipfile or zlib raise
        raise DataError(f"{path}: not readable ({reason_of(error)}). {fix}") from error


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Write an ``.npz`` file, whole or not at all."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    replace_file(path, content.getvalue())


def check_array(
    arrays: Arrays, name: str, shape: tuple[int | None, ...], kinds: str
) -> npt.NDArray[np.generic]:
    """Return an array after checking its shape and type.

    Parameters
    ----------
    arrays : dict
        What :func:`read_arrays` returned.
    name : str
        The array's name.
    shape : tuple of int or None
        Its shape; None stands for any length.
    kinds : str
        Allowed kinds of its type, by numpy's letters: ``"U"`` text, ``"i"`` integers, ``"f"``
        floats.

    Raises
    ------
    ValueError
        It is missing, or has another shape or type.
    """
    if name not in arrays:
        raise ValueError(f"the array '{name}' is missing")
    array = arrays[name]
    fits = len(array.shape) == len(shape) and all(
        wanted in (None, length) for wanted, length in zip(shape, array.shape)
    )
    if not fits or array.dtype.kind not in kinds:
        raise ValueError(f"the array '{name}' has shape {array.shape} and type {array.dtype}")
    return array
