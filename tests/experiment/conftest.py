"""A study that several tests read."""

from __future__ import annotations

import pytest
from tuning import PLAN, fake_train

from recbole_llmkt.experiment.tune import Tuning, tune


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return folder, tune(Tuning(PLAN, 12), folder, jobs=1, train=fake_train)
