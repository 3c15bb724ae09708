"""The command ``llmkt journal``."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import click
from tabulate import tabulate

from recbole_llmkt.cli.options import names as split_names
from recbole_llmkt.experiment.journal import Entry, differences, find, read_journal, select
from recbole_llmkt.utils.terminal import echo
from recbole_llmkt.utils.text import json_line, one_line


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", default="", callback=split_names, help="Only these models (a,b,c).")
@click.option("--arm", default="", callback=split_names, help="Only these arms (a,b,c).")
@click.option("--dataset", default="", callback=split_names, help="Only these datasets (a,b,c).")
@click.option("--seed", default="", callback=split_names, help="Only these seeds (a,b,c).")
@click.option("--status", type=click.Choice(["ok", "failed"]), help="Only runs with this status.")
@click.option("--since", type=click.DateTime(), help="Only runs that ended then or later, UTC.")
@click.option("--diff", nargs=2, metavar="RUN RUN", help="Compare the settings of two runs.")
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
    """List all runs of an output folder and its subfolders.

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
        rows = [
            {"run": entry.name, **entry.record.to_json(), "time": entry.time.isoformat()}
            for entry in shown
        ]
        echo(json_line(rows, indent=2))
        return
    head = ["run", "dataset", "ended (UTC)", "status", "test", "epochs", "seconds", "settings"]
    echo(tabulate([_row(entry) for entry in shown], head, disable_numparse=True))
    echo(f"\n{len(shown)} of {len(entries)} runs.")


def _row(entry: Entry) -> list[str]:
    record = entry.record
    cells = [
        entry.name,
        record.dataset,
        f"{entry.time.astimezone(timezone.utc):%Y-%m-%d %H:%M}",
        record.status,
        entry.score if record.ok else record.error[:60],
        "" if record.epochs is None else str(record.epochs),
        f"{record.seconds:.0f}",
        record.digest,
    ]
    return [one_line(cell) for cell in cells]


def _show_difference(first: Entry, second: Entry, as_json: bool) -> None:
    rows = differences(first, second)
    if as_json:
        settings = {key: [old, new] for key, old, new in rows}
        echo(json_line({"runs": [first.name, second.name], "settings": settings}, indent=2))
        return
    cells = [[one_line(cell) for cell in row] for row in rows]
    echo(tabulate(cells, ["key", first.name, second.name], disable_numparse=True))
    echo(f"\n{len(rows)} keys differ. Test: {first.score or '-'} and {second.score or '-'}.")
