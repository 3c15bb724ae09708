from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import recbole.model.sequential_recommender  # noqa: F401  (turns anomaly detection on: see below)
import torch

from recbole_llmkt.config import Config
from tests.parity.parity_cases import Case
from tests.parity.parity_checks import Lab
from tests.parity.parity_data import NAME, write_atomic_files, write_profiles


@pytest.fixture(scope="session")
def data_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_atomic_files(folder)
    return folder


@pytest.fixture(scope="session")
def make_lab(data_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Lab]:
    """Make the lab of a case; profiles are written once for each split of the data."""
    written: dict[str, Path] = {}
    torch.set_num_threads(1)
    # RecBole's SINE leaves torch's anomaly detection on for the process: right, but 3 times slower.
    torch.autograd.set_detect_anomaly(False)

    def make(case: Case) -> Lab:
        values: dict[str, Any] = case.config(data_path=str(data_path), kt_enabled=False)
        eval_args = dict(values.get("eval_args") or {})
        split = repr({**eval_args, "mode": ""})
        if split not in written:
            written[split] = tmp_path_factory.mktemp("profiles")
            config = Config(case.model, NAME, config_dict=values, command_line=[])
            write_profiles(written[split], config)
        return Lab(case, data_path, written[split])

    return make


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep RecBole's log/, saved/ and log_tensorboard/ out of the repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["test"])
