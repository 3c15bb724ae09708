"""The results file of a comparison: a JSON line for each run, written as soon as it ends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from logging import getLogger
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from recbole_llmkt.experiment.runs.plan import Run
from recbole_llmkt.experiment.runs.settings import differences, digest
from recbole_llmkt.utils.exceptions import DataError
from recbole_llmkt.utils.files import drop_cut_line, whole_lines

logger = getLogger(__name__)

Record = dict[str, Any]
FILE_NAME = "results.jsonl"
_REQUIRED = ("model", "arm", "seed", "dataset", "digest", "status")


def read_results(path: Path) -> list[Record]:
    """Read a results file; of several lines about one run the last one counts.

    Parameters
    ----------
    path : Path
        ``results.jsonl``; a missing file holds no results.

    Returns
    -------
    list of dict
        A record for each run, in the order in which the runs first ended. A last line that a
        crash cut short is left out, with a warning.

    Raises
    ------
    DataError
        A line (but the last) cannot be read, or lacks a field.
    """
    if not path.exists():
        return []
    whole, rest = whole_lines(path.read_bytes())
    if rest.strip():
        logger.warning("%s: the last line was cut short and is left out.", path)
    records: dict[tuple[Any, ...], Record] = {}
    for number, line in enumerate(whole.split(b"\n"), start=1):
        if line.strip():
            record = _read_line(line, path, number)
            records[run_key(record)] = record
    return list(records.values())


def _read_line(line: bytes, path: Path, number: int) -> Record:
    mend = f"Delete line {number} (its run is then done again), or restore the file."
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path}, line {number}: not readable as JSON ({error}). {mend}") from error
    missing = [name for name in _REQUIRED if not isinstance(record, dict) or name not in record]
    if missing:
        raise DataError(f"{path}, line {number}: no {', '.join(missing)}. {mend}")
    return dict(record)


def run_key(record: Mapping[str, Any]) -> tuple[str, str, int, str]:
    """Return what tells a record's run from the others; equals :attr:`Run.key`."""
    return (record["model"], record["arm"], record["seed"], record["dataset"])


def run_name(record: Mapping[str, Any]) -> str:
    """Return a run's name, which is also that of its folder; equals :attr:`Run.name`."""
    return f"{record['model']}-{record['arm']}-{record['seed']}"


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keep other comparisons and studies out of a folder.

    Raises
    ------
    DataError
        Another process is writing to it.
    """
    lock = FileLock(str(folder / ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(
            f"Another comparison or study is writing to '{folder}': wait until it ends, or choose "
            "another --output."
        ) from error
    try:
        yield
    finally:
        lock.release()


class ResultsWriter:
    """The one writer of a results file; use it as a context manager.

    Parameters
    ----------
    folder : Path
        The comparison's folder.

    Raises
    ------
    DataError
        Another process is writing to the same folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._held = ExitStack()

    def __enter__(self) -> ResultsWriter:
        with ExitStack() as stack:
            stack.enter_context(folder_lock(self.path.parent))
            drop_cut_line(self.path)
            self._held = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def append(self, record: Record) -> None:
        """Add a line and wait until it is on the disk."""
        with self.path.open("ab") as file:
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def split_done(runs: Iterable[Run], records: Iterable[Record]) -> tuple[list[Run], list[Record]]:
    """Tell the runs that remain from the records of those that are done.

    A run is done if its record's settings have the same digest; failed runs are tried again.

    Returns
    -------
    tuple of (list of Run, list of dict)
        What remains, and the records of what is done.

    Raises
    ------
    DataError
        A run is recorded under other settings, or the records are of another dataset.
    """
    known = {run_key(record): record for record in records}
    remaining, done, datasets = [], [], {record["dataset"] for record in known.values()}
    for run in runs:
        if datasets - {run.dataset}:
            raise DataError(
                f"The folder holds results on {', '.join(sorted(datasets - {run.dataset}))}, and "
                f"this comparison is on {run.dataset}: choose another --output."
            )
        record = known.get(run.key)
        if record is None or record["status"] != "ok":
            remaining.append(run)
        elif _digest(record) != run.digest:
            raise DataError(_other_settings(run, record))
        else:
            done.append(record)
    return remaining, done


def _digest(record: Record) -> str:
    """Digest a record's settings by today's rule, so that lines of older versions still count."""
    return digest(record["settings"]) if record.get("settings") else str(record["digest"])


def _other_settings(run: Run, record: Record) -> str:
    changed = differences(record.get("settings", {}), run.settings)
    return (
        f"{run.name} was recorded under other settings ({changed}). Choose another --output, or "
        f"delete its line from {FILE_NAME}."
    )
