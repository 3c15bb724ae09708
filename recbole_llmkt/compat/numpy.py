"""numpy 2 removed names that RecBole and ray 2.6.3 use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_REMOVED = {"float_": "float64", "complex_": "complex128", "unicode_": "str_", "bool8": "bool_"}


@contextmanager
def numpy_names() -> Iterator[None]:
    """Give numpy the names that it had before numpy 2, for the length of the block.

    ``recbole/config/configurator.py``, ``Config.compatibility_settings`` uses ``np.float_``,
    ``np.complex_`` and ``np.unicode_``, and ray 2.6.3 ``np.bool8`` (RUCAIBox/RecBole issues 2174
    and 2215).
    """
    missing = [name for name in _REMOVED if name not in vars(np)]
    for name in missing:
        setattr(np, name, getattr(np, _REMOVED[name]))
    try:
        yield
    finally:
        for name in missing:
            vars(np).pop(name, None)
