"""What the server of the runs' processes does once for all of them; nothing else imports it.

It imports what every run would, and reads the data that they share.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
from contextlib import suppress
from unittest.mock import patch

import sklearn.decomposition  # noqa: F401
import thop  # type: ignore[import-untyped]  # noqa: F401
import torch
import torch._dynamo

import recbole_llmkt.quick_start
import recbole_llmkt.training.trainer  # noqa: F401
from recbole_llmkt.config import Config
from recbole_llmkt.datasets.sharing import share
from recbole_llmkt.experiment.runs.pool import SHARED_VARIABLE, make_absolute


def share_all(settings_of_runs: str) -> None:
    """Read the data of runs, given as JSON; what cannot be read is left to them."""
    torch.set_num_threads(
        1
    )  # the threads of OpenMP do not survive a fork, nor does a GPU's context
    with patch.dict(os.environ):
        for settings in json.loads(settings_of_runs):
            with suppress(Exception):
                config = Config(config_dict={**settings, "gpu_id": ""}, command_line=[])
                make_absolute(config)
                share(config)


share_all(os.environ.pop(SHARED_VARIABLE, "[]"))
# A run that collects garbage would otherwise copy every page of this process.
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)  # libraries count what is left at the end, and complain of it
