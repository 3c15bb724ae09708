"""The journal: every run of an output folder and of the folders in it, and how two runs differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from recbole_llmkt.experiment.report.significance import primary_metric
from recbole_llmkt.experiment.runs.results import FILE_NAME, Record, read_results, run_name
from recbole_llmkt.utils.exceptions import ConfigError, DataError, nearest


@dataclass(frozen=True)
class Entry:
    """A run in the journal.

    Attributes
    ----------
    name : str
        The run's name, after its folder's where that is not the journal's own:
        ``tuned/BPR-kt-1``.
    time : datetime
        When it ended (of records without a time: when their file was last written), with a zone.
    record : dict
        Its line of ``results.jsonl``.
    """

    name: str
    time: datetime
    record: Record

    @property
    def score(self) -> str:
        """Return the test figure of the metric that chose the checkpoint, with its name."""
        metric = primary_metric([self.record], self.record["model"])
        return "" if metric is None else f"{metric} {self.record['test'][metric]:.4f}"


def read_journal(folder: Path) -> list[Entry]:
    """Read all runs of a folder and of the folders in it, the oldest first.

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
            time = _zoned(datetime.fromisoformat(record["time"])) if "time" in record else written
            entries.append(Entry((home / run_name(record)).as_posix(), time, record))
    if not entries:
        raise DataError(
            f"There is no {FILE_NAME} with runs in '{folder}' or below: name the --output of a "
            "comparison, or a folder that holds several."
        )
    return sorted(entries, key=lambda entry: entry.time)


def _zoned(time: datetime) -> datetime:
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
        Runs that ended then or later; UTC unless it says otherwise.
    **wanted : sequence of str
        Allowed values of a record's field (``model``, ``arm``, ``status``, ...); none allows all.
    """
    return [
        entry
        for entry in entries
        if all(not some or str(entry.record.get(name)) in some for name, some in wanted.items())
        and (since is None or entry.time >= _zoned(since))
    ]


def find(entries: Sequence[Entry], name: str) -> Entry:
    """Return the run of a name; the folder may be left out where that is clear.

    Raises
    ------
    ConfigError
        There is no such run, or there are several.
    """
    found = [entry for entry in entries if entry.name == name]
    found = found or [entry for entry in entries if entry.name.rpartition("/")[2] == name]
    names = [entry.name for entry in found or entries]
    if not found:
        raise ConfigError(f"There is no run '{name}' in the journal.{nearest(name, names)}")
    if len(found) > 1:
        raise ConfigError(f"There are several runs '{name}': {', '.join(names)}. Name the folder.")
    return found[0]


def differences(first: Entry, second: Entry) -> list[tuple[str, str, str]]:
    """List the keys of two runs' settings that differ, with both values; ``-`` is no such key."""
    one, other = (entry.record.get("settings", {}) for entry in (first, second))
    rows = [(key, _text(one, key), _text(other, key)) for key in sorted({*one, *other})]
    return [row for row in rows if row[1] != row[2]]


def _text(settings: dict[str, Any], key: str) -> str:
    return json.dumps(settings[key], ensure_ascii=False) if key in settings else "-"
