"""A comparison's figures as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from tabulate import tabulate

from recbole_llmkt.experiment.report import tables
from recbole_llmkt.experiment.report.findings import Findings
from recbole_llmkt.experiment.report.statistics import Cell, Estimate
from recbole_llmkt.experiment.runs.results import run_name

_PARTS = ("mean", "sd", "low95", "high95", "bootstrap_low95", "bootstrap_high95")
_CELL_HEAD = (
    "model",
    "arm",
    "metric",
    "seeds",
    *_PARTS,
    *(f"gain_percent_{part}" for part in _PARTS),
    "seeds_won",
)
_PAIR_HEAD = (
    "model",
    "arm",
    "rival",
    "metric",
    "users",
    "difference",
    "wilcoxon_p",
    "ttest_p",
    "holm_p",
    "seeds",
    "seeds_difference",
    "seeds_low95",
    "seeds_high95",
    "proven",
)


def summary_csv(found: Findings) -> str:
    """Return the table, a line for each model, arm and metric."""
    return _csv(_CELL_HEAD, (_cell_line(cell) for cell in found.cells))


def slices_csv(found: Findings) -> str:
    """Return the slices, a line for each part, model, arm and metric."""
    lines = (
        [one.name, one.part, one.bounds, f"{one.users:g}", *_cell_line(cell)]
        for one in found.slices
        for cell in one.cells
    )
    return _csv(("slice", "part", "bounds", "users", *_CELL_HEAD), lines)


def tests_csv(found: Findings) -> str:
    """Return the tests, a line for each pair of arms."""
    lines = []
    for pair in found.pairs:
        names = [pair.model, pair.arm, pair.rival, pair.metric, pair.users]
        over_users = [pair.difference, pair.wilcoxon, pair.ttest, pair.holm]
        seeds = pair.seeds or Estimate(0, float("nan"), None, None, None)
        over_seeds = [seeds.n, *(_number(one) for one in (seeds.mean, seeds.low, seeds.high))]
        lines.append([*names, *map(_number, over_users), *over_seeds, pair.proven])
    return _csv(_PAIR_HEAD, lines)


def _csv(head: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return buffer.getvalue()


def _cell_line(cell: Cell) -> list[Any]:
    won = cell.won if cell.gain else ""
    numbers = [*_numbers(cell.value, 6), *_numbers(cell.gain, 3)]
    return [cell.model, cell.arm, cell.metric, cell.value.n, *numbers, won]


def _numbers(value: Estimate | None, digits: int) -> list[str]:
    if value is None:
        return [""] * len(_PARTS)
    parts = (value.mean, value.sd, value.low, value.high, value.boot_low, value.boot_high)
    return ["" if part is None else f"{part:.{digits}f}" for part in parts]


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.6g}"


# ---- Markdown ---------------------------------------------------------------------------------


def report_markdown(found: Findings) -> str:
    """Return the report as GitHub's Markdown."""
    lines = [f"# {tables.title(found)}", ""]
    lines += [f"> **{line}**\n" for line in tables.doubts(found.records)]
    if found.cells:
        lines += [f"- {line}" for line in tables.verdict_lines(found)]
        lines += ["", _summary(found), "", tables.notes(found), ""]
    parts = [
        ("Tests", _table(tables.TESTS_HEAD, tables.tests_rows(found))),
        ("Slices", _table(tables.SLICES_HEAD, tables.slices_rows(found))),
        ("Profiles", _table(tables.PROFILES_HEAD, tables.profiles_rows(found))),
        ("Tuning", _table(tables.TUNING_HEAD, tables.tuning_rows(found))),
        ("Settings by model and arm", _settings(found)),
        ("Runs", _runs(found)),
    ]
    for heading, table in parts:
        if table:
            lines += [f"## {heading}", "", table, ""]
    return "\n".join([*lines, tables.environment(found)]) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return tabulate(cells, head, tablefmt="github", disable_numparse=True) if cells else ""


def _cell(found: Findings, cell: Cell | None, best: bool) -> str:
    if cell is None:
        return ""
    text = tables.value_text(cell.value)
    gain = tables.gain_text(cell.gain) + tables.star(found, cell)
    return (f"**{text}**" if best else text) + (f" ({gain})" if gain else "")


def _summary(found: Findings) -> str:
    rows = [
        [row.model, row.arm]
        + [_cell(found, cell, best) for cell, best in zip(row.cells, row.best)]
        + [f"{row.seconds:.0f}"]
        for row in tables.table_rows(found.good, found.cells)
    ]
    return _table(["model", "arm", *tables.metric_heads(found.cells), "s/run"], rows)


def _settings(found: Findings) -> str:
    arms = found.unique("arm")
    rows = (
        [row["model"], f"`{row['key']}`", *(row["texts"].get(arm, "") for arm in arms)]
        for row in tables.own_settings(found.records)
    )
    return _table(["model", "key", *arms], rows)


def _runs(found: Findings) -> str:
    rows = (
        [
            run_name(record),
            record.get("epochs", ""),
            f"{record['seconds']:.0f}",
            record["status"] if record["status"] == "ok" else f"failed: {record.get('error')}",
            record["digest"],
        ]
        for record in found.records
    )
    return _table(["run", "epochs", "seconds", "status", "settings"], rows)
