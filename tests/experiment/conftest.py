"""A study that several tests read."""

from __future__ import annotations

import pytest

from recbole_llmkt.experiment.runs import compare
from recbole_llmkt.experiment.tuning import trials
from recbole_llmkt.experiment.tuning.tune import Tuning, tune
from tests.experiment.fake_runs import PLAN, fake_train, run_quickly


@pytest.fixture(scope="session", autouse=True)
def quick_runs():
    """Train stand-ins that are marked ``in_process`` so; everything else is as it is."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (compare, trials):
            patch.setattr(module, "run_all", run_quickly)
        yield


@pytest.fixture(scope="session")
def study(tmp_path_factory, quick_runs):
    folder = tmp_path_factory.mktemp("study")
    return folder, tune(Tuning(PLAN, 12), folder, jobs=1, train=fake_train)
