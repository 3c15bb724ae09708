"""Run a comparison: every arm, model and seed, each in a process of its own; it can be resumed."""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from logging import getLogger
from pathlib import Path

from recbole_llmkt import __version__
from recbole_llmkt.datasets.loading import download
from recbole_llmkt.experiment.runs.consistency import check_comparable, check_profiles, check_seeds
from recbole_llmkt.experiment.runs.plan import Plan, Run
from recbole_llmkt.experiment.runs.pool import (
    Ended,
    Train,
    Validated,
    default_jobs,
    output_folder,
    run_all,
)
from recbole_llmkt.experiment.runs.progress import Progress
from recbole_llmkt.experiment.runs.records import FAILED, OK, RunRecord
from recbole_llmkt.experiment.runs.results import ResultsWriter, read_results, split_done
from recbole_llmkt.keys.combinations import check_run

logger = getLogger(__name__)


def compare(
    plan: Plan,
    output: Path,
    jobs: int | None = None,
    train: Train | None = None,
    when_done: Callable[[Sequence[Run], Sequence[RunRecord], Path], None] | None = None,
    command: str = "",
) -> list[RunRecord]:
    """Train the runs of ``plan`` that ``output`` lacks, and record each as it ends.

    Parameters
    ----------
    plan : Plan
        Models, arms, seeds, dataset and settings.
    output : Path
        Folder of the results file and of the runs' own folders.
    jobs : int, optional
        Runs at a time; by default one per core, but only one if there is a GPU.
    train : callable, optional
        Trains one run; by default :func:`recbole_llmkt.quick_start.train`.
    when_done : callable, optional
        Called at the end with all runs, their records and ``output``.
    command : str
        What a reader of the report types to repeat it.

    Returns
    -------
    list of RunRecord
        The records of the plan's runs, failed ones included.

    Raises
    ------
    ConfigError, DataError
        Before anything runs: bad settings, or results in ``output`` that do not fit them.
    """
    runs = plan.runs()
    for run in {(run.model, run.arm): run for run in runs}.values():
        check_run(run.config(), ("test",))
        check_seeds(run, plan.seeds, "give one seed (--seeds=1)")
    jobs = jobs or default_jobs(len(runs))
    output = output_folder(output)
    with ResultsWriter(output) as writer:
        known = read_results(writer.path)
        remaining, done = split_done(runs, known)
        check_comparable(runs, known)
        check_profiles(runs, known)
        if done:
            logger.info("%d of %d runs are already done.", len(done), len(runs))
        logger.info("%d runs to do, %d at a time.", len(remaining), jobs)
        if remaining:
            download(remaining[0].config())
        new = _execute(remaining, writer, jobs, train or _quick_train(), command)
    order = [run.key for run in runs]
    records = sorted([*done, *new], key=lambda record: order.index(record.key))
    if when_done is not None:
        when_done(runs, records, output)
    return records


def _quick_train() -> Train:
    from recbole_llmkt.quick_start import train

    return train


def _execute(
    runs: Sequence[Run], writer: ResultsWriter, jobs: int, train: Train, command: str
) -> list[RunRecord]:
    records = []
    curves: dict[Run, list[tuple[int, float]]] = defaultdict(list)
    with Progress(len(runs)) as progress:
        for event in run_all(runs, writer.path.parent, jobs, train):
            if isinstance(event, Validated):
                curves[event.run].append((event.epoch, event.score))
            elif isinstance(event, Ended):
                records.append(_record(event, curves.pop(event.run, []), command))
                writer.append(records[-1])
            progress.show(event)
    return records


def _record(event: Ended, curve: Sequence[tuple[int, float]], command: str) -> RunRecord:
    run, result = event.run, event.result
    record = RunRecord(
        model=run.model,
        arm=run.arm,
        seed=run.seed,
        dataset=run.dataset,
        digest=run.digest,
        status=FAILED if result is None else OK,
        seconds=event.seconds,
        time=datetime.now(timezone.utc).replace(microsecond=0),
        settings=dict(run.settings),
        arm_keys=run.arm_keys,
        data=run.data,
        versions=versions(),
        tuned=run.tuned,
        command=command,
        error=event.error,
    )
    if result is None:
        return record
    return replace(
        record,
        test=result.test,
        valid=result.valid,
        epochs=run.epochs_until(curve[-1][0] + 1) if curve else run.epochs,
        curve=curve,
        transfer=result.transfer,
        slices=result.slices,
    )


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide a result."""
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
