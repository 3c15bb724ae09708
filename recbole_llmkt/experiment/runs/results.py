"""The results file of a comparison: a JSON line for each run, written as soon as it ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from recbole_llmkt.experiment.runs.plan import Run
from recbole_llmkt.experiment.runs.records import RunKey, RunRecord
from recbole_llmkt.experiment.runs.settings import differences, digest
from recbole_llmkt.utils.exceptions import DataError
from recbole_llmkt.utils.files import drop_cut_line, exclusive
from recbole_llmkt.utils.jsonl import read_objects, write_line

FILE_NAME = "results.jsonl"
_FIX = "Delete line {line} (its run is then repeated), or restore the file."


def read_results(path: Path) -> list[RunRecord]:
    """Read a results file; of several lines about one run the last one counts.

    Parameters
    ----------
    path : Path
        ``results.jsonl``; a missing file holds no results.

    Returns
    -------
    list of RunRecord
        A record for each run, in the order in which the runs first ended. A last line that a
        crash cut off is left out, with a warning.

    Raises
    ------
    DataError
        A line (but a cut-off last one) cannot be read, or a field is missing or of a wrong type.
    """
    records: dict[RunKey, RunRecord] = {}
    for fields in read_objects(path, _FIX):
        record = RunRecord.read(fields)
        records[record.key] = record
    return list(records.values())


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keep other comparisons and studies out of a folder.

    Raises
    ------
    DataError
        Another process is writing to it.
    """
    with exclusive(folder / ".lock", error_class=DataError, option="--output"):
        yield


class ResultsWriter:
    """The only writer of a results file; use it as a context manager.

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

    def append(self, record: RunRecord) -> None:
        """Add a line and wait until it is on the disk."""
        with self.path.open("ab", buffering=0) as file:
            write_line(file, record.to_json())


def split_done(
    runs: Iterable[Run], records: Iterable[RunRecord]
) -> tuple[list[Run], list[RunRecord]]:
    """Separate the runs that remain from the records of those that are done.

    A run is done if its record's settings have the same digest; failed runs are repeated.

    Returns
    -------
    tuple of (list of Run, list of RunRecord)
        What remains, and the records of what is done.

    Raises
    ------
    DataError
        A run was recorded with other settings, or the records are of another dataset.
    """
    known = {record.key: record for record in records}
    datasets = {record.dataset for record in known.values()}
    remaining, done = [], []
    for run in runs:
        if others := datasets - {run.dataset}:
            raise DataError(
                f"The folder holds results on {', '.join(sorted(others))}, and this comparison is "
                f"on {run.dataset}: choose another --output."
            )
        record = known.get(run.key)
        if record is None or not record.ok:
            remaining.append(run)
        elif _digest(record) != run.digest:
            raise DataError(_other_settings(run, record))
        else:
            done.append(record)
    return remaining, done


def _digest(record: RunRecord) -> str:
    """Digest a record's settings by today's rule, so that lines of older versions still count."""
    return digest(record.settings) if record.settings else record.digest


def _other_settings(run: Run, record: RunRecord) -> str:
    changed = differences(record.settings, run.settings)
    return (
        f"{run.name} was recorded with other settings ({changed}). Choose another --output, or "
        f"delete its line from {FILE_NAME}."
    )
