"""Replace an attribute for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def replaced(owner: ModuleType | type, name: str, value: object) -> Iterator[None]:
    """Set an attribute of a module or a class for the length of the block.

    Parameters
    ----------
    owner : module or type
        What has the attribute.
    name : str
        The attribute.
    value : object
        What it is in the block.
    """
    before = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
