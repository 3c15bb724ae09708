"""RecBole reads pickles, and a pickle can run any code when it is read."""

from __future__ import annotations

import functools
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import IO, Union

import numpy as np
import torch

from recbole_llmkt.utils.exceptions import DataError
from recbole_llmkt.utils.files import check_regular

_File = Union[str, "os.PathLike[str]", IO[bytes]]
_ZIP_SIGNATURE = b"PK\x03\x04"


@contextmanager
def pickles_refused() -> Iterator[None]:
    """Refuse every pickle that RecBole reads within the block.

    Several models load weights of an earlier training inside their constructors, with
    ``torch.load`` and no ``weights_only`` (``ract.py``, ``neumf.py``, ``nais.py``, ``convncf.py``,
    ``kd_dagfm.py``, ``s3rec.py``), or ``np.load(..., allow_pickle=True)`` (``ldiffrec.py``). Here
    ``torch.load`` reads tensors and plain values only, and ``np.load`` numbers only.

    Raises
    ------
    DataError
        Naming the file that holds something else.
    """
    load_array: Callable[..., object] = np.load

    @functools.wraps(load_array)
    def load_numbers(file: _File, *arguments: object, **keywords: object) -> object:
        try:
            return load_array(file, *arguments[:1], **{**keywords, "allow_pickle": False})
        except ValueError as error:
            raise DataError(_refusal(file)) from error

    @functools.wraps(torch.load)
    def load_tensors(
        file: str | os.PathLike[str],
        map_location: torch.device | str | None = None,
        *arguments: object,
        **keywords: object,
    ) -> object:
        return load_plain(file, map_location)

    def refuse(file: IO[bytes], *arguments: object, **keywords: object) -> object:
        raise DataError(_refusal(getattr(file, "name", file)))

    patches: list[tuple[ModuleType, str, Callable[..., object]]] = [
        (np, "load", load_numbers),
        (torch, "load", load_tensors),
        (pickle, "load", refuse),
    ]
    undone = [(module, name, getattr(module, name)) for module, name, _ in patches]
    try:
        for module, name, function in patches:
            setattr(module, name, function)
        yield
    finally:
        for module, name, function in undone:
            setattr(module, name, function)


def _refusal(file: object) -> str:
    return (
        f"'{file}' is a pickle, which is not read, as it could run any code. Name a file "
        "that holds tensors and plain values only, such as a checkpoint of recbole_llmkt."
    )


_load_torch = torch.load


def _is_script(path: str | os.PathLike[str]) -> bool:
    """Tell whether an archive is a TorchScript program: PyTorch would advise to run it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False  # torch.load says what is wrong with it


def load_plain(path: str | os.PathLike[str], device: torch.device | str | None = None) -> object:
    """Read a file of ``torch.save`` that holds tensors and plain values only.

    Before version 2.6, PyTorch runs code from files of its oldest formats even with
    ``weights_only=True`` (CVE-2025-32434): only its zip format is read.

    Parameters
    ----------
    path : str or path
        The file.
    device : torch.device or str, optional
        Where its tensors go.

    Raises
    ------
    DataError
        It holds anything else, or is not in the zip format.
    OSError
        It cannot be opened, or is no regular file.
    """
    check_regular(path)
    with open(path, "rb") as file:
        signature = file.read(len(_ZIP_SIGNATURE))
    if signature != _ZIP_SIGNATURE or _is_script(path):
        raise DataError(f"Cannot read '{path}': it is not a file of torch.save (zip format).")
    try:
        content: object = _load_torch(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(_refusal(path)) from error
    return content
