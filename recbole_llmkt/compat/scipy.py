"""scipy 1.13 removed the method with which RecBole's graph models fill their matrices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from scipy.sparse import dok_matrix


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
