"""Progress bars: widgets in notebooks, text elsewhere, and only where something takes long."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a notebook without ipywidgets has bars of text
    # Not tqdm.auto, which begins a loader twice: that draws a random number.
    from tqdm.autonotebook import tqdm

from recbole_llmkt.utils.text import printable

__all__ = ["WIDGETS", "late_bars", "tqdm"]

#: Whether bars are widgets of a notebook.
WIDGETS = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)

_SECONDS = 2


class Widget(tqdm):  # type: ignore[misc]
    """A bar in a notebook: as wide as there is space, no terminal's colours, gone when done."""

    def __init__(self, *arguments: object, **keywords: Any) -> None:
        for name in ("desc", "bar_format"):
            if keywords.get(name):
                keywords[name] = printable(keywords[name]).replace("{bar:20}", "{bar}")
        keywords = {"leave": False, **keywords, "ncols": None, "dynamic_ncols": False}
        super().__init__(*arguments, **keywords)

    def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
        """Show a text behind the bar."""
        super().set_postfix_str(printable(s), refresh)


if WIDGETS:
    tqdm = Widget


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
