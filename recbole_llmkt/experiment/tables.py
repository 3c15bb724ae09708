"""The table of a comparison: numbers as text, rows, and what makes them doubtful."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click
from tabulate import SEPARATING_LINE, tabulate

from recbole_llmkt.experiment.results import Record
from recbole_llmkt.experiment.statistics import Cell, Estimate

FEW_SEEDS = 5


@dataclass(frozen=True)
class Row:
    """One line of the table: an arm of a model.

    Attributes
    ----------
    model, arm : str
        Names.
    cells : sequence of Cell or None
        A cell for each of :func:`metric_names`.
    best : sequence of bool
        Whether the arm is the model's best by that metric.
    seconds : float
        Mean time of a run.
    """

    model: str
    arm: str
    cells: Sequence[Cell | None]
    best: Sequence[bool]
    seconds: float


def metric_names(cells: Sequence[Cell]) -> list[str]:
    """Return the metrics in their order."""
    return list(dict.fromkeys(cell.metric for cell in cells))


def table_rows(records: Sequence[Record], cells: Sequence[Cell]) -> list[Row]:
    """Arrange cells in rows, in their order."""
    metrics = metric_names(cells)
    found = {(cell.model, cell.arm, cell.metric): cell for cell in cells}
    rows = []
    for model, arm in dict.fromkeys((cell.model, cell.arm) for cell in cells):
        own = [found.get((model, arm, metric)) for metric in metrics]
        best = [cell is not None and cell == _best(cells, cell) for cell in own]
        times = [r["seconds"] for r in records if (r["model"], r["arm"]) == (model, arm)]
        rows.append(Row(model, arm, own, best, sum(times) / max(1, len(times))))
    return rows


def _best(cells: Sequence[Cell], cell: Cell) -> Cell:
    rivals = [one for one in cells if (one.model, one.metric) == (cell.model, cell.metric)]
    return max(rivals, key=lambda one: -one.value.mean if one.smaller else one.value.mean)


def terminal_table(records: Sequence[Record], cells: Sequence[Cell]) -> str:
    """Return the table as text, with what makes it doubtful below it."""
    lines: list[list[str]] = []
    model = ""
    for row in table_rows(records, cells):
        if lines and row.model != model:
            lines.append(SEPARATING_LINE)
        texts = [_cell_text(cell, best) for cell, best in zip(row.cells, row.best)]
        shown = row.model if row.model != model else ""
        lines.append([shown, row.arm, *texts, f"{row.seconds:.0f}"])
        model = row.model
    headers = ["model", "arm", *metric_names(cells), "s/run"]
    text = [tabulate(lines, headers, disable_numparse=True), ""] if lines else []
    notes = [click.style(line, fg="red") for line in doubts(records)]
    return "\n".join([*text, seeds_note(records), *notes])


def _cell_text(cell: Cell | None, best: bool) -> str:
    if cell is None:
        return ""
    text = f"{value_text(cell.value)} {gain_text(cell.gain):>7}"
    return click.style(text, bold=True) if best else text


def value_text(value: Estimate) -> str:
    """Format a metric: ``0.1534 ± 0.0012``, or without a deviation for one seed."""
    return f"{value.mean:.4f}" + (f" ± {value.sd:.4f}" if value.sd is not None else "")


def gain_text(gain: Estimate | None) -> str:
    """Format a gain: ``+2.1%``, or nothing."""
    return f"{round(gain.mean, 1) + 0.0:+.1f}%" if gain is not None else ""  # never -0.0


def interval_text(gain: Estimate | None) -> str:
    """Format the 95% interval of a gain: ``-0.3% to +4.5%``, or nothing."""
    if gain is None or gain.low is None:
        return ""
    return f"{gain.low:+.1f}% to {gain.high:+.1f}%"


def seeds_note(records: Sequence[Record]) -> str:
    """Say what the figures are and how far the number of seeds carries."""
    count = len({record["seed"] for record in records})
    text = (
        f"Test metrics, mean ± standard deviation over {count} seed{'s' * (count > 1)}; "
        "gain over base, paired by seed."
    )
    if count < FEW_SEEDS:
        text += " So few seeds give hints, not proof: --seeds=1,2,3,4,5 tells more."
    return text


def doubts(records: Sequence[Record]) -> list[str]:
    """Say what makes results doubtful: leaking profiles, failed runs."""
    lines = []
    leaking = [run_name(record) for record in records if leaks(record)]
    if leaking:
        lines.append(
            "profile_allow_leak is on: profiles may have seen validation or test interactions, so "
            f"these figures are no evidence: {', '.join(leaking)}."
        )
    failed = [record for record in records if record["status"] != "ok"]
    lines += [f"{run_name(record)} failed: {record.get('error')}" for record in failed]
    return lines


def leaks(record: Record) -> bool:
    """Tell whether a run was allowed to use profiles of another training split."""
    transfer = record.get("transfer") or {}
    allowed = record.get("settings", {}).get("profile_allow_leak")
    return bool(transfer.get("leaks") or allowed)


def run_name(record: Record) -> str:
    """Return a run's name, which is also that of its folder."""
    return f"{record['model']}-{record['arm']}-{record['seed']}"
