"""What a comparison leaves behind: a page, Markdown, CSV files and pictures."""

from __future__ import annotations

import base64
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from recbole_llmkt.experiment.report import evidence_figures, exports, figures, tables
from recbole_llmkt.experiment.report.findings import Findings
from recbole_llmkt.utils.files import replace_file

# The picture of a file name, with what it shows.
_PICTURES: dict[str, tuple[str, Callable[[Findings, figures.Theme], Figure | None]]] = {
    "gains": (
        "Gain over base, mean over seeds; thin: 95% interval by Student's t, thick: by bootstrap "
        "(too narrow for few seeds)",
        evidence_figures.forest_figure,
    ),
    "summary": (
        "Test metrics by model and arm: mean, standard deviation, seeds, gain over base",
        lambda found, theme: (
            figures.summary_figure(found.cells, found.good, theme) if found.cells else None
        ),
    ),
    "curves": (
        "Validation score by epoch; dotted: where phase 2 begins",
        lambda found, theme: figures.curves_figure(found.good, theme),
    ),
    "slices": (
        "Test metric by slice, mean and standard deviation over seeds",
        evidence_figures.slices_figure,
    ),
    "map": (
        "Profile embeddings in two dimensions, by category",
        evidence_figures.map_figure,
    ),
}


def make_report(folder: Path) -> str:
    """Write ``report.html``, ``report.md``, CSV files and pictures into a comparison's folder.

    The CSV files are ``summary.csv``, ``tests.csv`` and ``slices.csv``; the pictures, where there
    is something to show, ``gains.png``, ``summary.png``, ``curves.png``, ``slices.png`` and
    ``map.png``.

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
        There are no results in the folder, or a file in it cannot be read.
    """
    found = Findings.read(folder)
    for name, (_, draw) in _PICTURES.items():
        figure = draw(found, figures.LIGHT)
        if figure is not None:
            figures.save_png(figure, folder / f"{name}.png")
    texts = {
        "summary.csv": exports.summary_csv(found),
        "tests.csv": exports.tests_csv(found),
        "slices.csv": exports.slices_csv(found),
        "report.md": exports.report_markdown(found),
        "report.html": report_html(found),
    }
    for name, text in texts.items():
        replace_file(folder / name, text.encode())
    return tables.terminal_table(found)


def report_html(found: Findings) -> str:
    """Return a page that needs no other file: tables, pictures, settings and runs."""
    source = (
        resources.files("recbole_llmkt.experiment.report")
        .joinpath("report.html")
        .read_text("utf-8")
    )
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source).render(
        found=found,
        title=tables.title(found),
        metrics=tables.metric_heads(found.cells),
        rows=tables.table_rows(found.good, found.cells),
        verdicts=list(zip(found.verdicts, tables.verdict_lines(found))),
        note=tables.notes(found),
        doubts=tables.doubts(found.records),
        pictures={name: _picture(found, name) for name in _PICTURES},
        arm_names=found.unique("arm"),
        tables=tables,
        settings=tables.own_settings(found.records),
        shared=tables.shared_settings(found.records),
        records=found.records,
        environment=tables.environment(found),
        value_text=tables.value_text,
        gain_text=tables.gain_text,
        interval_text=tables.interval_text,
        star=tables.star,
        leaks=tables.leaks,
    )


def _picture(found: Findings, name: str) -> dict[str, str] | None:
    """Draw a picture for a light and for a dark screen, as data addresses."""
    title, draw = _PICTURES[name]
    addresses: dict[str, Any] = {"title": title}
    for kind, theme in zip(("light", "dark"), figures.THEMES):
        figure = draw(found, theme)
        if figure is None:
            return None
        coded = base64.b64encode(figures.as_svg(figure).encode()).decode()
        addresses[kind] = f"data:image/svg+xml;base64,{coded}"
    return addresses
