"""Workers that the processes of a Ray cluster can import."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from recbole_llmkt.utils.exceptions import ProfileError


class Squares:
    """Square numbers, and tell in which process."""

    def __call__(self, numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
        for number in numbers:
            if number < 0:
                raise ProfileError(f"no root of {number}")
            yield number * number, os.getpid()


class Refuses:
    """Fail at the start, as a worker without the model's weights does."""

    def __init__(self) -> None:
        raise ProfileError("no weights here")
