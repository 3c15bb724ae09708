"""What the tests share: a folder of their own, and a tiny dataset with profiles."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# As in the Makefile: small models gain nothing from threads, and processes lose by them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# torch and RecBole are imported where they are needed: the process that hands out the tests to
# others reads this file, too.
if TYPE_CHECKING:
    from tests.helpers import TinyDataset

# What starts processes of its own, and wants the machine to itself.
_STARTS_PROCESSES = (
    "tests/cli/test_main.py",
    "tests/compat/test_stock.py",
    "tests/e2e/",
    "tests/experiment/runs/test_compare.py",
    "tests/experiment/runs/test_pool.py",
    "tests/experiment/test_protocols.py",
    "tests/experiment/tuning/test_tune.py",
    "tests/experiment/tuning/test_winners.py",
    "tests/profiles/generation/test_kill.py",
    "tests/test_packaging.py",
    "tests/transfer/methods/test_own_method.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what starts processes."""
    for item in items:
        if item.nodeid.startswith(_STARTS_PROCESSES):
            item.add_marker(pytest.mark.xdist_group("processes"))


def pytest_collection_finish() -> None:
    """Spare the collector what stays until the end: all modules and tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


@pytest.fixture(autouse=True, scope="session")
def cheap_seeds() -> None:
    """Seed only the devices that are there.

    For each other kind torch queues the call, with the stack that it came from: a millisecond.
    """
    import torch

    for kind in ("cuda", "xpu", "mtia"):
        devices = getattr(torch, kind, None)  # old versions know fewer kinds
        if devices is None or devices.is_available():
            continue
        for module in (devices, getattr(devices, "random", None)):
            if hasattr(module, "_lazy_call"):
                module._lazy_call = lambda call, **_: None


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty folder (RecBole writes log/, saved/ there), blind to pytest's own flags."""
    import torch

    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["test"])
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    torch.autograd.set_detect_anomaly(False)  # importing RecBole's sequential models sets it
    yield
    root.setLevel(level)  # RecBole's HyperTuning lets errors through only
    for handler in [added for added in root.handlers if added not in before]:
        root.removeHandler(handler)
        handler.close()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no picture of a report, for seconds, where a test reads texts."""
    from recbole_llmkt.experiment.report import figures

    monkeypatch.setattr(figures, "as_svg", lambda figure: "<svg/>")
    monkeypatch.setattr(figures, "save_png", lambda figure, path: None)


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., TinyDataset]:
    """Return a function that writes a dataset with random interactions."""
    import numpy as np

    from tests.helpers import TinyDataset

    def make(
        n_users: int = 30,
        n_items: int = 40,
        per_user: tuple[int, int] = (10, 20),
        name: str = "tiny",
        user: Callable[[int], str] = "u{}".format,
        item: Callable[[int], str] = "i{}".format,
    ) -> TinyDataset:
        rng = np.random.default_rng(7)
        rows = []
        for who in rng.permutation(n_users):
            count = int(rng.integers(per_user[0], per_user[1] + 1))
            for what in rng.permutation(n_items)[:count]:
                rating = int(rng.integers(1, 6))
                rows.append((user(who), item(what), rating, int(rng.integers(10**6))))
        dataset = TinyDataset(name, tmp_path / "data", rows)
        dataset.folder.mkdir(parents=True)
        lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
        lines += ["\t".join(map(str, row)) for row in rows]
        (dataset.folder / f"{name}.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return dataset

    return make


@pytest.fixture
def tiny(make_dataset: Callable[..., TinyDataset]) -> TinyDataset:
    """Return a dataset of 30 users and 40 items, all of them with profiles."""
    from tests.helpers import add_profiles

    dataset = make_dataset()
    add_profiles(dataset)
    return dataset
