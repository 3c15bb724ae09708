"""A comparison's results as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from tabulate import tabulate

from recbole_llmkt.experiment.report import tables
from recbole_llmkt.experiment.report.findings import Findings
from recbole_llmkt.experiment.report.statistics import Cell, Estimate
from recbole_llmkt.utils.text import cell as table_cell
from recbole_llmkt.utils.text import latex, markdown, one_line

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


def summary_csv(findings: Findings) -> str:
    """Return the table, a line for each model, arm and metric."""
    return _csv(_CELL_HEAD, (_cell_line(cell) for cell in findings.cells))


def slices_csv(findings: Findings) -> str:
    """Return the slices, a line for each part, model, arm and metric."""
    lines = (
        [*_names(part.name, part.part, part.bounds), f"{part.users:g}", *_cell_line(cell)]
        for part in findings.slices
        for cell in part.cells
    )
    return _csv(("slice", "part", "bounds", "users", *_CELL_HEAD), lines)


def tests_csv(findings: Findings) -> str:
    """Return the tests, a line for each pair of arms."""
    lines = []
    for pair in findings.pairs:
        names = [*_names(pair.model, pair.arm, pair.rival, pair.metric), pair.users]
        over_users = [pair.difference, pair.wilcoxon, pair.ttest, pair.holm]
        seeds = pair.seeds or Estimate(0, float("nan"), None, None, None)
        over_seeds = [seeds.n, *(_number(value) for value in (seeds.mean, seeds.low, seeds.high))]
        lines.append([*names, *map(_number, over_users), *over_seeds, pair.proven])
    return _csv(_PAIR_HEAD, lines)


def _csv(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return buffer.getvalue()


def _cell_line(cell: Cell) -> list[object]:
    won = cell.won if cell.gain else ""
    numbers = [*_numbers(cell.value, 6), *_numbers(cell.gain, 3)]
    return [*_names(cell.model, cell.arm, cell.metric), cell.value.n, *numbers, won]


def _names(*names: str) -> list[str]:
    """Return names, which were read from a file, so that no spreadsheet computes them."""
    return [table_cell(name) for name in names]


def _numbers(value: Estimate | None, digits: int) -> list[str]:
    if value is None:
        return [""] * len(_PARTS)
    parts = (value.mean, value.sd, value.low, value.high, value.boot_low, value.boot_high)
    return ["" if part is None else f"{part:.{digits}f}" for part in parts]


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.6g}"


# ---- Markdown ---------------------------------------------------------------------------------


def report_markdown(findings: Findings) -> str:
    """Return the report as GitHub's Markdown."""
    lines = [f"# {markdown(tables.title(findings))}", ""]
    lines += [f"> **{markdown(line)}**\n" for line in tables.doubts(findings.records)]
    if findings.cells:
        lines += [f"- {markdown(line)}" for line in tables.verdict_lines(findings)]
        lines += ["", _summary(findings), "", markdown(tables.notes(findings)), ""]
    parts = [
        ("Tests", _table(tables.TESTS_HEAD, tables.tests_rows(findings))),
        ("Slices", _table(tables.SLICES_HEAD, tables.slices_rows(findings))),
        ("Profiles", _table(tables.PROFILES_HEAD, tables.profiles_rows(findings))),
        ("Tuning", _table(tables.TUNING_HEAD, tables.tuning_rows(findings))),
        ("Settings by model and arm", _settings(findings)),
        ("Runs", _runs(findings)),
    ]
    for heading, table in parts:
        if table:
            lines += [f"## {heading}", "", table, ""]
    return "\n".join([*lines, markdown(tables.environment(findings))]) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table, with its cells escaped: they were read from a file."""
    cells = [[markdown(str(cell)) for cell in row] for row in rows]
    names = [markdown(name) for name in head]
    return tabulate(cells, names, tablefmt="github", disable_numparse=True) if cells else ""


def _cell(findings: Findings, cell: Cell | None, best: bool) -> str:
    if cell is None:
        return ""
    text = tables.value_text(cell.value)
    gain = tables.gain_text(cell.gain) + tables.star(findings, cell)
    return (f"**{text}**" if best else text) + (f" ({gain})" if gain else "")


def _summary(findings: Findings) -> str:
    rows = [
        [row.model, row.arm]
        + [_cell(findings, cell, best) for cell, best in zip(row.cells, row.best)]
        + [f"{row.seconds:.0f}"]
        for row in tables.table_rows(findings.good, findings.cells)
    ]
    return _table(["model", "arm", *tables.metric_heads(findings.cells), "s/run"], rows)


def _settings(findings: Findings) -> str:
    arms = findings.unique("arm")
    rows = (
        [row.model, row.key, *(row.texts.get(arm, "") for arm in arms)]
        for row in tables.own_settings(findings.records)
    )
    return _table(["model", "key", *arms], rows)


def _runs(findings: Findings) -> str:
    rows = (
        [
            record.name,
            "" if record.epochs is None else record.epochs,
            f"{record.seconds:.0f}",
            record.status if record.ok else f"failed: {record.error}",
            record.digest,
        ]
        for record in findings.records
    )
    return _table(["run", "epochs", "seconds", "status", "settings"], rows)


# ---- LaTeX ------------------------------------------------------------------------------------


def summary_latex(findings: Findings) -> str:
    r"""Return the table for a paper, to be read by ``\input``; it needs the package ``booktabs``.

    Bold is a model's best arm, a star what the tests prove; comments say what the figures are.
    """
    comments = (tables.title, tables.notes, tables.environment)
    heads = ["Model", "Arm", *map(latex, tables.metric_heads(findings.cells))]
    lines = [
        *(f"% {one_line(text(findings))}" for text in comments),
        rf"\begin{{tabular}}{{ll{'l' * (len(heads) - 2)}}}",
        r"\toprule",
        rf"{' & '.join(heads)} \\",
    ]
    model = None
    for row in tables.table_rows(findings.good, findings.cells):
        if row.model != model:
            lines.append(r"\midrule")
        name = "" if row.model == model else latex(row.model)
        cells = [_latex_cell(findings, cell, best) for cell, best in zip(row.cells, row.best)]
        lines.append(rf"{' & '.join([name, latex(row.arm), *cells])} \\")
        model = row.model
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_cell(findings: Findings, cell: Cell | None, best: bool) -> str:
    if cell is None:
        return ""
    text = latex(tables.value_text(cell.value))
    proven = "$^{*}$" if tables.star(findings, cell) else ""
    gain = latex(tables.gain_text(cell.gain)).replace("-", "$-$")  # a minus, not a hyphen
    return (rf"\textbf{{{text}}}" if best else text) + proven + (f" ({gain})" if gain else "")
