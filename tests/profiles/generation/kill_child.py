"""A generation run in a process of its own, to be killed."""

from __future__ import annotations

import logging
import sys
from typing import Any


def run(dataset: str, settings: dict[str, Any]) -> None:
    """Write the user profiles of a dataset."""
    from recbole_llmkt.config import Config
    from recbole_llmkt.profiles.generation.run import generate_profiles

    logging.disable(logging.CRITICAL)
    sys.stderr = open("/dev/null", "w")  # noqa: SIM115 - for the life of this process
    config = Config("BPR", dataset, config_dict=settings, command_line=[])
    generate_profiles(config, "user")
