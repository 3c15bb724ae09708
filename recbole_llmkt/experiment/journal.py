"""The journal: every run of an output folder and its subfolders, and how two runs differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from recbole_llmkt.experiment.report.significance import primary_metric
from recbole_llmkt.experiment.runs.records import RunRecord
from recbole_llmkt.experiment.runs.results import FILE_NAME, read_results
from recbole_llmkt.utils.exceptions import ConfigError, DataError, nearest
from recbole_llmkt.utils.types import Settings


@dataclass(frozen=True)
class Entry:
    """A run in the journal.

    Attributes
    ----------
    name : str
        The run's name, after that of its subfolder: ``tuned/BPR-kt-1``.
    time : datetime
        When it ended, with a time zone; for records without a time, when their file was last
        written.
    record : RunRecord
        Its line of ``results.jsonl``.
    """

    name: str
    time: datetime
    record: RunRecord

    @property
    def score(self) -> str:
        """Return the test value of the metric that chose the checkpoint, with its name."""
        metric = primary_metric([self.record], self.record.model)
        return "" if metric is None else f"{metric} {self.record.test[metric]:.4f}"


def read_journal(folder: Path) -> list[Entry]:
    """Read all runs of a folder and its subfolders, the oldest first.

    Raises
    ------
    DataError
        There are none, or a results file cannot be read.
    """
    entries = []
    for path in sorted(folder.rglob(FILE_NAME)):
        home = path.parent.relative_to(folder)
        written = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
        for record in read_results(path):
            time = written if record.time is None else _with_zone(record.time)
            entries.append(Entry((home / record.name).as_posix(), time, record))
    if not entries:
        raise DataError(
            f"There is no {FILE_NAME} with runs in '{folder}' or below: name the --output of a "
            "comparison, or a folder that holds several."
        )
    return sorted(entries, key=lambda entry: entry.time)


def _with_zone(time: datetime) -> datetime:
    return time if time.tzinfo is not None else time.replace(tzinfo=timezone.utc)


def select(
    entries: Sequence[Entry], since: datetime | None = None, **wanted: Sequence[str]
) -> list[Entry]:
    """Return the entries with the wanted values.

    Parameters
    ----------
    entries : sequence of Entry
        The journal.
    since : datetime, optional
        Runs that ended then or later; UTC without a time zone.
    **wanted : sequence of str
        Allowed values of a record's attribute (``model``, ``arm``, ``status``, ...); an empty
        sequence allows all.
    """
    return [
        entry
        for entry in entries
        if all(
            not values or str(getattr(entry.record, name)) in values
            for name, values in wanted.items()
        )
        and (since is None or entry.time >= _with_zone(since))
    ]


def find(entries: Sequence[Entry], name: str) -> Entry:
    """Return the run with a name; the folder may be left out if the name is unique.

    Raises
    ------
    ConfigError
        There is no such run, or several.
    """
    matches = [entry for entry in entries if entry.name == name]
    matches = matches or [entry for entry in entries if entry.name.rpartition("/")[2] == name]
    names = [entry.name for entry in matches or entries]
    if not matches:
        raise ConfigError(f"There is no run '{name}' in the journal.{nearest(name, names)}")
    if len(matches) > 1:
        raise ConfigError(f"There are several runs '{name}': {', '.join(names)}. Name the folder.")
    return matches[0]


def differences(first: Entry, second: Entry) -> list[tuple[str, str, str]]:
    """List the keys of two runs' settings that differ, with both values; ``-``: no such key."""
    old, new = first.record.settings, second.record.settings
    rows = [(key, _text(old, key), _text(new, key)) for key in sorted({*old, *new})]
    return [row for row in rows if row[1] != row[2]]


def _text(settings: Settings, key: str) -> str:
    return json.dumps(settings[key], ensure_ascii=False) if key in settings else "-"
