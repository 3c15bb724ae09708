"""Stock RecBole, running beside any numpy, scipy, pandas, PyTorch and Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO

import torch
from recbole.config import Config

from recbole_llmkt.compat.arrays import numpy_names, scipy_matrices
from recbole_llmkt.compat.imports import importing_models, quick_start_imported
from recbole_llmkt.compat.pandas import pandas_data
from recbole_llmkt.compat.replacing import replaced
from recbole_llmkt.compat.torch import torch_quiet

_load: Callable[..., object] = torch.load


@contextmanager
def stock_recbole() -> Iterator[None]:
    """Let stock RecBole import, train, save, load and evaluate within the block.

    Its results are those that it has with the versions it was written for. What RecBole does
    itself is left as it is, and that includes unpickling: within the block ``torch.load`` reads
    pickles from files, as it did before PyTorch 2.6, and a pickle can run any code. Load only
    checkpoints that you made yourself. Nothing of this holds outside of the block.

    Examples
    --------
    >>> from recbole_llmkt.compat import stock_recbole
    >>> with stock_recbole():  # doctest: +SKIP
    ...     from recbole.quick_start import run_recbole
    ...
    ...     run_recbole("BPR", "ml-100k")
    """
    with ExitStack() as stack:
        repairs = (numpy_names, scipy_matrices, pandas_data, importing_models, torch_quiet)
        for repair in (*repairs, quick_start_imported):
            stack.enter_context(repair())
        # np.float and others, which RecBole gives to numpy whenever it makes a Config. It needs
        # them for a Config of a checkpoint as well.
        Config.compatibility_settings(None)
        stack.enter_context(replaced(torch, "load", _load_pickles))
        yield


def _load_pickles(
    file: str | os.PathLike[str] | IO[bytes], *arguments: object, **keywords: object
) -> object:
    """Read a file of ``torch.save``, its pickled configuration included."""
    if isinstance(file, (str, os.PathLike)):
        keywords.setdefault("weights_only", False)
    return _load(file, *arguments, **keywords)
