"""How many cases, and which: few and fixed in `make test`, as many as wanted in `make fuzz`.

``EXAMPLES`` is the number of cases of each test; ``--hypothesis-seed`` chooses others.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

_SHORT = 15

settings.register_profile(
    "fuzz",
    max_examples=int(os.environ.get("EXAMPLES") or _SHORT),
    derandomize="EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    # Files that one case leaves are overwritten by the next.
    suppress_health_check=list(HealthCheck),
)


settings.load_profile("fuzz")  # tests take it over when their modules are imported


@pytest.fixture(autouse=True, scope="package")
def _quiet() -> Iterator[None]:
    """Keep thousands of warnings out of the log."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
