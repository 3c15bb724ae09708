"""The report of a comparison: a page, Markdown, CSV files and pictures."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Union
from urllib.parse import quote

import jinja2
from matplotlib.figure import Figure

from recbole_llmkt.experiment.report import evidence_figures, exports, figures, origin, tables
from recbole_llmkt.experiment.report.findings import Findings
from recbole_llmkt.experiment.report.hover import Spot, spots
from recbole_llmkt.experiment.runs.consistency import profile_uses
from recbole_llmkt.experiment.runs.pool import LOG_FILE
from recbole_llmkt.utils.files import replace_file
from recbole_llmkt.utils.text import finalize

_SVG = "image/svg+xml"
# The caption and the function of each picture, by file name.
Title = Union[str, Callable[[Findings], str]]
PICTURES: dict[str, tuple[Title, Callable[[Findings, figures.Theme], Figure | None]]] = {
    "gains": (
        evidence_figures.forest_title,
        evidence_figures.forest_figure,
    ),
    "summary": (
        "Test metrics (↓: lower is better): mean, standard deviation, seeds, gain over base",
        lambda findings, theme: (
            figures.summary_figure(findings.cells, findings.good, theme) if findings.cells else None
        ),
    ),
    "curves": (
        "Validation score by epoch; dotted: where phase 2 begins",
        lambda findings, theme: figures.curves_figure(findings.good, theme),
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


@dataclass(frozen=True)
class Picture:
    """A picture for the page.

    Attributes
    ----------
    title : str
        Its caption.
    light, dark : str
        Its addresses for light and dark screens.
    spots : list of Spot
        Where a pointer reads values.
    """

    title: str
    light: str
    dark: str
    spots: list[Spot]


def make_report(folder: Path) -> str:
    """Write ``report.html``, ``report.md``, tables and pictures into a comparison's folder.

    The tables are ``summary.csv``, ``summary.tex`` for a paper, ``tests.csv`` and ``slices.csv``;
    the pictures, as far as there is something to show, ``gains.png``, ``summary.png``,
    ``curves.png``, ``slices.png`` and ``map.png``.

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
    findings = Findings.read(folder)
    pictures = {name: _picture(findings, name, folder) for name in PICTURES}
    texts = {
        "summary.csv": exports.summary_csv(findings),
        "summary.tex": exports.summary_latex(findings),
        "tests.csv": exports.tests_csv(findings),
        "slices.csv": exports.slices_csv(findings),
    }
    downloads = {name: _address(text, "text/plain") for name, text in texts.items()}
    texts["report.md"] = exports.report_markdown(findings)
    texts["report.html"] = report_html(
        findings, pictures, downloads, _links(findings, folder, LOG_FILE), _links(findings, folder)
    )
    for name, text in texts.items():
        replace_file(folder / name, text.encode())
    return tables.terminal_table(findings)


def report_html(
    findings: Findings,
    pictures: Mapping[str, Picture | None],
    downloads: Mapping[str, str],
    logs: Mapping[str, str],
    folders: Mapping[str, str],
) -> str:
    """Return a self-contained page: tables, pictures, settings and runs.

    Parameters
    ----------
    findings : Findings
        What it tells.
    pictures : mapping of str to Picture or None
        By file name.
    downloads : mapping of str to str
        The addresses of tables, by file name.
    logs, folders : mapping of str to str
        The addresses of logs and folders, by the names of the runs.
    """
    source = (
        resources.files("recbole_llmkt.experiment.report")
        .joinpath("report.html")
        .read_text("utf-8")
    )
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=finalize
    )
    return environment.from_string(source).render(
        findings=findings,
        title=tables.title(findings),
        metrics=tables.metric_heads(findings.cells),
        rows=tables.table_rows(findings.good, findings.cells),
        arms=origin.arm_lines(findings),
        dates=origin.dates(findings),
        commands=origin.commands(findings),
        verdicts=list(zip(findings.verdicts, tables.verdict_lines(findings))),
        note=tables.notes(findings),
        doubts=tables.doubts(findings.records),
        pictures=pictures,
        downloads=downloads,
        logs=logs,
        folders=folders,
        arm_names=findings.unique("arm"),
        tables=tables,
        settings=tables.own_settings(findings.records),
        shared=tables.shared_settings(findings.records),
        records=findings.records,
        environment=tables.environment(findings),
        value_text=tables.value_text,
        gain_text=tables.gain_text,
        interval_text=tables.interval_text,
        star=tables.star,
        exact_text=tables.exact_text,
        leaks=tables.leaks,
        profile_uses=profile_uses,
    )


def _links(findings: Findings, folder: Path, file: str = "") -> dict[str, str]:
    """Return where a file of each run, or its folder, is, relative to the page.

    A name is no way out of the folder.
    """
    names = {record.name for record in findings.records if "/" not in record.name}
    paths = {name: Path("runs", name, file) for name in names}
    return {
        name: quote(path.as_posix()) for name, path in paths.items() if (folder / path).exists()
    }


def _picture(findings: Findings, name: str, folder: Path) -> Picture | None:
    """Draw a picture: as a file, and for light and dark screens as data URLs."""
    title, draw = PICTURES[name]
    figure = draw(findings, figures.LIGHT)
    if figure is None:
        return None
    svg = figures.as_svg(figure)
    figures.save_png(figure, folder / f"{name}.png")
    return Picture(
        title if isinstance(title, str) else title(findings),
        _address(svg, _SVG),
        _address(figures.darkened(svg), _SVG),
        spots(figure),
    )


def _address(text: str, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"
