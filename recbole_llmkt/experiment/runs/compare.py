"""Run a comparison: every arm, model and seed, each in a process of its own, and resumable."""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from logging import getLogger
from pathlib import Path

from recbole_llmkt import __version__
from recbole_llmkt.datasets.loading import download
from recbole_llmkt.experiment.runs.consistency import check_alike, check_knowledge, check_seeds
from recbole_llmkt.experiment.runs.plan import Plan, Run
from recbole_llmkt.experiment.runs.pool import Event, Train, default_jobs, output_folder, run_all
from recbole_llmkt.experiment.runs.progress import Progress
from recbole_llmkt.experiment.runs.results import (
    Record,
    ResultsWriter,
    read_results,
    run_key,
    split_done,
)

logger = getLogger(__name__)


def compare(
    plan: Plan,
    output: Path,
    jobs: int | None = None,
    train: Train | None = None,
    when_done: Callable[[Sequence[Run], Sequence[Record], Path], None] | None = None,
) -> list[Record]:
    """Train what ``plan`` holds and what ``output`` has not yet, and record each run as it ends.

    Parameters
    ----------
    plan : Plan
        Models, arms, seeds, dataset and settings.
    output : Path
        Folder of the results file and of the runs' own folders.
    jobs : int, optional
        Runs at a time; by default one per core, and one only where there is a GPU.
    train : callable, optional
        Trains one run; by default :func:`recbole_llmkt.quick_start.train`.
    when_done : callable, optional
        Called at the end with all runs, their records and ``output``.

    Returns
    -------
    list of dict
        The records of the plan's runs, failed ones too (``status: failed``, with ``error``).

    Raises
    ------
    ConfigError, DataError
        Before anything runs: bad settings, or results in ``output`` that do not fit them.
    """
    runs = plan.runs()
    for run in {(run.model, run.arm): run for run in runs}.values():
        check_seeds(run, plan.seeds, "give one seed (--seeds=1)")
    jobs = jobs or default_jobs(len(runs))
    output = output_folder(output)
    with ResultsWriter(output) as writer:
        known = read_results(writer.path)
        remaining, done = split_done(runs, known)
        check_alike(runs, known)
        check_knowledge(runs, known)
        if done:
            logger.info("%d of %d runs are done already.", len(done), len(runs))
        logger.info("%d runs to do, %d at a time.", len(remaining), jobs)
        if remaining:
            download(remaining[0].config())
        new = _execute(remaining, writer, jobs, train or _quick_train())
    order = [run.key for run in runs]
    records = sorted([*done, *new], key=lambda record: order.index(run_key(record)))
    if when_done is not None:
        when_done(runs, records, output)
    return records


def _quick_train() -> Train:
    from recbole_llmkt.quick_start import train

    return train


def _execute(runs: Sequence[Run], writer: ResultsWriter, jobs: int, train: Train) -> list[Record]:
    records = []
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    with Progress(len(runs)) as progress:
        for event in run_all(runs, writer.path.parent, jobs, train):
            if event.kind == "epoch":
                curves[event.run.name].append(event.value)
            elif event.kind in ("done", "failed"):
                records.append(_record(event, curves.pop(event.run.name, [])))
                writer.append(records[-1])
            progress.show(event)
    return records


def _record(event: Event, curve: Sequence[tuple[int, float]]) -> Record:
    run, value = event.run, event.value
    record = {
        "model": run.model,
        "arm": run.arm,
        "seed": run.seed,
        "dataset": run.dataset,
        "digest": run.digest,
        "status": "ok" if event.kind == "done" else "failed",
        "seconds": value["seconds"],
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": dict(run.settings),
        "arm_keys": list(run.arm_keys),
        "data": run.data,
        "versions": versions(),
    }
    if run.tuned is not None:
        record["tuned"] = dict(run.tuned)
    if event.kind == "failed":
        return {**record, "error": value["result"]}
    result = value["result"]
    return {
        **record,
        "test": result["test_result"],
        "valid": result["best_valid_result"],
        "epochs": run.epochs_until(curve[-1][0] + 1) if curve else run.epochs,
        "curve": [list(point) for point in curve],
        "transfer": result.get("transfer"),
        "slices": result.get("slices", []),
    }


def versions() -> dict[str, str]:
    """Return the versions of what decides a result."""
    import numpy
    import recbole
    import torch

    return {
        "recbole_llmkt": __version__,
        "recbole": recbole.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
    }
