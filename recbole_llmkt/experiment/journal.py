"""The journal: every run of an output folder and of the folders in it, and how two runs differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
from tabulate import tabulate

from recbole_llmkt.exceptions import ConfigError, DataError, nearest
from recbole_llmkt.experiment.results import FILE_NAME, Record, read_results, run_name
from recbole_llmkt.experiment.significance import primary_metric
from recbole_llmkt.options import names as split_names
from recbole_llmkt.utils.text import one_line


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


# ---- the command ------------------------------------------------------------------------------


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", default="", callback=split_names, help="These models only, by commas.")
@click.option("--arm", default="", callback=split_names, help="These arms only, by commas.")
@click.option("--dataset", default="", callback=split_names, help="These datasets only, by commas.")
@click.option("--seed", default="", callback=split_names, help="These seeds only, by commas.")
@click.option("--status", type=click.Choice(["ok", "failed"]), help="Runs that ended so.")
@click.option("--since", type=click.DateTime(), help="Runs that ended then or later, UTC.")
@click.option("--diff", nargs=2, metavar="RUN RUN", help="How the settings of two runs differ.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def journal(
    folder: Path,
    model: list[str],
    arm: list[str],
    dataset: list[str],
    seed: list[str],
    status: str | None,
    since: datetime | None,
    diff: tuple[str, str] | None,
    as_json: bool,
) -> None:
    """List all runs of an output folder and of the folders in it.

    \b
    Example:
      llmkt journal out
      llmkt journal studies --model=BPR --status=failed --since=2024-05-01
      llmkt journal out --diff BPR-base-1 BPR-kt-1
    """  # noqa: D301 - click reads the control character
    entries = read_journal(folder)
    if diff:
        _show_difference(find(entries, diff[0]), find(entries, diff[1]), as_json)
        return
    shown = select(
        entries,
        since,
        model=model,
        arm=arm,
        dataset=dataset,
        seed=seed,
        status=[status] if status else [],
    )
    if as_json:
        found = [{"run": one.name, "time": one.time.isoformat(), **one.record} for one in shown]
        click.echo(json.dumps(found, indent=2))
        return
    head = ["run", "dataset", "ended (UTC)", "status", "test", "epochs", "seconds", "settings"]
    rows = [[one_line(cell) for cell in _row(one)] for one in shown]
    click.echo(tabulate(rows, head, disable_numparse=True))
    click.echo(f"\n{len(shown)} of {len(entries)} runs.")


def _row(entry: Entry) -> list[str]:
    record = entry.record
    failed = record["status"] != "ok"
    return [
        entry.name,
        record["dataset"],
        f"{entry.time.astimezone(timezone.utc):%Y-%m-%d %H:%M}",
        record["status"],
        str(record.get("error", ""))[:60] if failed else entry.score,
        str(record.get("epochs", "")),
        f"{record.get('seconds', 0):.0f}",
        record["digest"],
    ]


def _show_difference(first: Entry, second: Entry, as_json: bool) -> None:
    rows = differences(first, second)
    if as_json:
        found = {key: [one, other] for key, one, other in rows}
        click.echo(json.dumps({"runs": [first.name, second.name], "settings": found}, indent=2))
        return
    cells = [[one_line(cell) for cell in row] for row in rows]
    click.echo(tabulate(cells, ["key", first.name, second.name], disable_numparse=True))
    click.echo(f"\n{len(rows)} keys differ. Test: {first.score or '-'} and {second.score or '-'}.")
