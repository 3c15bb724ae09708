"""A study that several tests read."""

from __future__ import annotations

import pytest

from recbole_llmkt.experiment.tuning.tune import Tuning, tune
from tests.experiment.fake_runs import PLAN, fake_train


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return folder, tune(Tuning(PLAN, 12), folder, jobs=1, train=fake_train)
