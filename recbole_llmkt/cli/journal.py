"""The command ``llmkt journal``."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import click
from tabulate import tabulate

from recbole_llmkt.cli.options import names as split_names
from recbole_llmkt.experiment.journal import Entry, differences, find, read_journal, select


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
        rows = [{"run": one.name, "time": one.time.isoformat(), **one.record} for one in shown]
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    head = ["run", "dataset", "ended (UTC)", "status", "test", "epochs", "seconds", "settings"]
    click.echo(tabulate([_row(one) for one in shown], head, disable_numparse=True))
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
    click.echo(tabulate(rows, ["key", first.name, second.name], disable_numparse=True))
    click.echo(f"\n{len(rows)} keys differ. Test: {first.score or '-'} and {second.score or '-'}.")
