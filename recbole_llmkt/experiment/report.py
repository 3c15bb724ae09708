"""What a comparison leaves behind: ``summary.csv``, two pictures and ``report.html``."""

from __future__ import annotations

import base64
import csv
import io
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from recbole_llmkt.exceptions import DataError
from recbole_llmkt.experiment import plots, tables
from recbole_llmkt.experiment.arms import ARMS
from recbole_llmkt.experiment.results import FILE_NAME, Record, read_results
from recbole_llmkt.experiment.statistics import Cell, Estimate, summarise


def make_report(folder: Path) -> str:
    """Write ``summary.csv``, ``summary.png``, ``curves.png`` and ``report.html``.

    Parameters
    ----------
    folder : Path
        A comparison's folder.

    Returns
    -------
    str
        The table for the terminal.

    Raises
    ------
    DataError
        There are no results in the folder, or they cannot be read.
    """
    from recbole.evaluator import smaller_metrics

    records = _in_order(read_results(folder / FILE_NAME))
    if not records:
        raise DataError(
            f"No results in '{folder}': `llmkt compare --output={folder} ...` makes them."
        )
    good = [record for record in records if record["status"] == "ok"]
    cells = summarise(good, smaller_metrics)
    if cells:
        plots.save_png(plots.summary_figure(cells, good), folder / "summary.png")
    curves = plots.curves_figure(good)
    if curves is not None:
        plots.save_png(curves, folder / "curves.png")
    _write(folder / "summary.csv", summary_csv(cells))
    _write(folder / "report.html", report_html(records, cells))
    return tables.terminal_table(records, cells)


def _in_order(records: Sequence[Record]) -> list[Record]:
    """Sort by model and arm, which end in any order; the base arm comes first."""
    models, arms = _unique(records, "model"), list(dict.fromkeys([*ARMS, *_unique(records, "arm")]))
    return sorted(
        records, key=lambda r: (models.index(r["model"]), arms.index(r["arm"]), r["seed"])
    )


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def summary_csv(cells: Sequence[Cell]) -> str:
    """Return the table as CSV, a line for each model, arm and metric."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    parts = ["mean", "sd", "low95", "high95"]
    gains = [f"gain_percent_{part}" for part in parts]
    writer.writerow(["model", "arm", "metric", "seeds", *parts, *gains, "seeds_won"])
    for cell in cells:
        won = cell.won if cell.gain else ""
        numbers = [*_numbers(cell.value, 6), *_numbers(cell.gain, 3)]
        writer.writerow([cell.model, cell.arm, cell.metric, cell.value.n, *numbers, won])
    return buffer.getvalue()


def _numbers(value: Estimate | None, digits: int) -> list[str]:
    if value is None:
        return [""] * 4
    parts = (value.mean, value.sd, value.low, value.high)
    return ["" if part is None else f"{part:.{digits}f}" for part in parts]


# ---- report.html ------------------------------------------------------------------------------


def report_html(records: Sequence[Record], cells: Sequence[Cell]) -> str:
    """Return a page that needs no other file: table, pictures, settings and runs."""
    source = resources.files("recbole_llmkt.experiment").joinpath("report.html").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    good = [record for record in records if record["status"] == "ok"]
    return environment.from_string(source).render(
        title=f"Knowledge transfer on {', '.join(_unique(records, 'dataset'))}",
        metrics=tables.metric_names(cells),
        rows=tables.table_rows(good, cells),
        verdicts=_verdicts(cells),
        note=tables.seeds_note(records),
        doubts=tables.doubts(records),
        pictures=_pictures(cells, good),
        arm_names=_unique(records, "arm"),
        settings=_own_settings(records),
        shared=_shared_settings(records),
        records=records,
        versions=sorted({text for record in records for text in _versions(record)}),
        minutes=sum(record["seconds"] for record in records) / 60,
        value_text=tables.value_text,
        gain_text=tables.gain_text,
        interval_text=tables.interval_text,
        leaks=tables.leaks,
    )


def _unique(records: Sequence[Record], name: str) -> list[str]:
    return list(dict.fromkeys(str(record[name]) for record in records))


def _versions(record: Record) -> list[str]:
    return [f"{name} {number}" for name, number in record.get("versions", {}).items()]


def _verdicts(cells: Sequence[Cell]) -> list[str]:
    """Say in a sentence for each model what the arms gain by the first metric."""
    first = tables.metric_names(cells)[:1]
    lines: dict[str, list[str]] = {}
    for cell in cells:
        if cell.gain is not None and cell.metric in first:
            text = (
                f"{cell.arm} {tables.gain_text(cell.gain)} "
                f"(better in {cell.won} of {cell.gain.n} seeds)"
            )
            lines.setdefault(f"{cell.model}, {cell.metric.upper()}", []).append(text)
    return [f"{model}: {', '.join(texts)}." for model, texts in lines.items()]


def _pictures(cells: Sequence[Cell], records: Sequence[Record]) -> list[dict[str, str]]:
    """Draw each picture for a light and for a dark screen, as data addresses."""
    pictures = []
    if cells:
        drawn = [plots.summary_figure(cells, records, theme) for theme in plots.THEMES]
        title = "Test metrics by model and arm: mean, standard deviation, seeds, gain over base"
        pictures.append({"title": title, **_addresses(drawn)})
    curves = [plots.curves_figure(records, theme) for theme in plots.THEMES]
    shown = [figure for figure in curves if figure is not None]
    if shown:
        pictures.append({"title": "Validation score by epoch", **_addresses(shown)})
    return pictures


def _addresses(figures: Sequence[Any]) -> dict[str, str]:
    coded = [base64.b64encode(plots.as_svg(one).encode()).decode() for one in figures]
    return {
        name: f"data:image/svg+xml;base64,{text}" for name, text in zip(("light", "dark"), coded)
    }


def _values(records: Sequence[Record]) -> dict[str, set[str]]:
    """Return the values that each key has in these runs."""
    found: dict[str, set[str]] = {}
    for record in records:
        for key, value in record.get("settings", {}).items():
            found.setdefault(key, set()).add(_text(value))
    return found


def _shared_settings(records: Sequence[Record]) -> list[tuple[str, str]]:
    """List the keys that have one value in all runs that use them."""
    return sorted((key, texts.pop()) for key, texts in _values(records).items() if len(texts) == 1)


def _own_settings(records: Sequence[Record]) -> list[dict[str, Any]]:
    """List, by model, the keys that are not the same everywhere, with each arm's value."""
    shared = {key for key, _ in _shared_settings(records)} | {"seed", "model"}
    rows = []
    for model in _unique(records, "model"):
        arms = {r["arm"]: r.get("settings", {}) for r in records if r["model"] == model}
        for key in sorted({key for settings in arms.values() for key in settings} - shared):
            texts = {arm: _text(values[key]) for arm, values in arms.items() if key in values}
            rows.append({"model": model, "key": key, "texts": texts})
    return rows


def _text(value: Any) -> str:
    return "~" if value is None else str(value)
