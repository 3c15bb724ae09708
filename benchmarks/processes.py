"""What scripts share that measure each figure in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys


def figures_of(script: str, *arguments: str) -> dict[str, float]:
    """Return what a script prints last, as JSON, when it is called with ``--measure``.

    In a process of its own: memory that was used once may stay, and its peak is that of the step.
    """
    done = subprocess.run(
        [sys.executable, script, "--measure", *arguments], check=True, stdout=subprocess.PIPE
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def counts(text: str) -> list[int]:
    """Read numbers, each of 1 or more, with commas between them."""
    numbers = [int(part) for part in text.split(",")]
    if min(numbers) < 1:
        raise ValueError(text)
    return numbers
