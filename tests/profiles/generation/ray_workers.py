"""Workers that the processes of a Ray cluster can import."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from recbole_llmkt.utils.exceptions import ProfileError


class Squares:
    """Square numbers."""

    def __call__(self, numbers: Iterable[int]) -> Iterator[int]:
        for number in numbers:
            if number < 0:
                raise ProfileError(f"no root of {number}")
            yield number * number


class Meets:
    """Square numbers, and tell in which process, once another process has work too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
        (self._folder / str(os.getpid())).touch()
        end = time.monotonic() + 90
        while len(list(self._folder.iterdir())) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        for number in numbers:
            yield number * number, os.getpid()


class Refuses:
    """Fail at the start, as a worker without the model's weights does."""

    def __init__(self) -> None:
        raise ProfileError("no weights here")
