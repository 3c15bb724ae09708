"""What RecBole uses of numpy and scipy, and newer versions removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from scipy.sparse import dok_matrix

_NAMES = {"float_": "float64", "complex_": "complex128", "unicode_": "str_", "bool8": "bool_"}


@contextmanager
def numpy_names() -> Iterator[None]:
    """Give numpy the names that it had before numpy 2, for the length of the block.

    ``recbole/config/configurator.py``, ``Config.compatibility_settings`` uses ``np.float_``,
    ``np.complex_`` and ``np.unicode_``, and ray 2.6.3 ``np.bool8`` (RUCAIBox/RecBole issues 2174
    and 2215).
    """
    missing = [name for name in _NAMES if name not in vars(np)]
    for name in missing:
        setattr(np, name, getattr(np, _NAMES[name]))
    try:
        yield
    finally:
        for name in missing:
            vars(np).pop(name, None)


def _update(self: dok_matrix, data: Mapping[tuple[int, int], float]) -> None:
    self._dict.update(data)


@contextmanager
def scipy_matrices() -> Iterator[None]:
    """Give ``dok_matrix`` its method ``_update`` for the length of the block.

    ``get_norm_adj_mat`` (LightGCN, NCL, GCMC), ``get_eye_mat`` and the like in
    ``recbole/model/general_recommender`` (NGCF, SpectralCF) and
    ``recbole/model/knowledge_aware_recommender`` (KGIN, MCCLK) call it (RUCAIBox/RecBole issues
    2090 and 2185).
    """
    if hasattr(dok_matrix, "_update"):
        yield
        return
    dok_matrix._update = _update
    try:
        yield
    finally:
        if vars(dok_matrix).get("_update") is _update:
            del dok_matrix._update
