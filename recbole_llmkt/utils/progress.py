"""Progress bars of libraries, which should be like ours: only where something takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

_SECONDS = 2


@contextmanager
def late_bars() -> Iterator[None]:
    """Show transformers' progress bars after two seconds only, for the length of the block.

    It draws one ("Loading weights") also where loading takes a moment. Releases before 5.4 cannot
    be told when; their bars stay as they are.
    """
    from transformers.utils import logging

    set_hook = getattr(logging, "set_tqdm_hook", None)
    if set_hook is None:
        yield
        return
    before = set_hook(_late)
    try:
        yield
    finally:
        set_hook(before)


def _late(
    bar: Callable[..., object], arguments: Sequence[object], keywords: Mapping[str, object]
) -> object:
    return bar(*arguments, **{"delay": _SECONDS, **keywords})
