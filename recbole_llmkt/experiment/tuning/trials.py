"""The lines that a study writes: what a trial was, and what came of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from recbole_llmkt.experiment.runs.consistency import texts_of
from recbole_llmkt.experiment.runs.plan import Run
from recbole_llmkt.experiment.runs.pool import Event, Train, run_all
from recbole_llmkt.experiment.runs.progress import Progress
from recbole_llmkt.experiment.runs.results import Record
from recbole_llmkt.utils.exceptions import DataError


def outcomes(
    runs: Iterable[Run], count: int, output: Path, jobs: int, train: Train
) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Train runs under a progress bar, and yield each as it ends, with what came of it.

    Parameters
    ----------
    runs : iterable of Run
        Asked for one by one, as there is room.
    count : int
        How many there are.
    output : Path
        Folder of the runs' own folders.
    jobs : int
        Runs at a time.
    train : callable
        Trains one of them.

    Yields
    ------
    Run, dict
        With ``seconds``, ``epochs``, and ``score`` and ``valid``, or ``error``.
    """
    epochs: dict[Run, int] = {}
    with Progress(count) as progress:
        for event in run_all(runs, output, jobs, train):
            if event.kind == "epoch":
                epochs[event.run] = event.run.epochs_until(event.value[0] + 1)
            elif event.kind in ("done", "failed"):
                yield event.run, _facts(event, epochs.pop(event.run, 0))
            progress.show(event)


def _facts(event: Event, epochs: int) -> dict[str, Any]:
    result, seconds = event.value["result"], event.value["seconds"]
    found = {"seconds": seconds, "epochs": epochs}
    if event.kind == "failed":
        return {**found, "error": result}
    score = result["best_valid_score"]
    if not math.isfinite(score):
        return {**found, "error": f"the validation score is {score}"}
    texts = texts_of(result)
    known = {"texts": texts} if texts else {}
    return {**found, **known, "score": score, "valid": result["best_valid_result"]}


def read_lines(path: Path, names: Sequence[str]) -> list[Record]:
    """Read a file of JSON lines that have these names; a missing file holds none.

    Raises
    ------
    DataError
        A line cannot be read.
    """
    if not path.exists():
        return []
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            line = json.loads(text)
            for name in names:
                line[name]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}, line {number}: not readable ({error}). Delete the file; "
                "`llmkt tune` makes it again."
            ) from error
        lines.append(dict(line))
    return lines
