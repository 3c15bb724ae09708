"""The picture of sparse worlds: gains against interactions per item."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from recbole_llmkt.experiment.report.figures import LIGHT, add_legend, arm_colours, style
from recbole_llmkt.experiment.report.findings import Findings
from recbole_llmkt.experiment.report.statistics import BASE, Cell

_TICKS = (2, 5, 10, 20, 50, 100, 200)
# A marker for each data set, and the sign that looks like it.
_MARKERS, _SHAPES = "os^v", "●■▲▼"
_CLOSE = 0.6  # points of gain whose labels would cover each other


def density_figure(findings: Findings, interactions: Mapping[str, float]) -> Figure | None:
    """Draw each arm's gain over base against how many interactions an item has in training.

    Parameters
    ----------
    findings : Findings
        Of models called ``MODEL on DATASET``.
    interactions : mapping of str to float
        Mean number of training interactions of an item, by data set.

    Returns
    -------
    Figure or None
        None if no arm can be compared with base. Points are models, in a shape for each data set;
        a line is an arm's mean over them on the shares of one data set.
    """
    cells = [
        cell
        for cell in findings.cells
        if cell.gain is not None and cell.arm != BASE and cell.metric == _metric(findings, cell)
    ]
    if not cells:
        return None
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    sources = sorted({_source(cell) for cell in cells})
    shades = arm_colours(arms, LIGHT)
    with matplotlib.rc_context(style(LIGHT)):
        figure = Figure(figsize=(8.0, 4.2), layout="constrained")
        axes = figure.subplots()
        for arm in arms:
            own = [(_density(cell, interactions), cell) for cell in cells if cell.arm == arm]
            control = "+" in arm
            for density, cell in own:
                marker = _MARKERS[sources.index(_source(cell)) % len(_MARKERS)]
                axes.plot(density, cell.gain.mean, marker, ms=4, color=shades[arm], alpha=0.6)
            for source in {_source(cell) for _, cell in own}:
                gains: dict[float, list[float]] = {}
                for density, cell in own:
                    if _source(cell) == source:
                        gains.setdefault(density, []).append(cell.gain.mean)
                means = [np.mean(gains[density]) for density in sorted(gains)]
                axes.plot(sorted(gains), means, "--" if control else "-", color=shades[arm])
        named = [cell for cell in cells if "+" not in cell.arm]
        for place, models in _labels(named, interactions).items():
            text = textwrap.fill(", ".join(models), 26)
            axes.annotate(text, place, (4, 3), textcoords="offset points", fontsize=7)
        densities = [_density(cell, interactions) for cell in cells]
        axes.set_xlim(0.8 * min(densities), 1.5 * max(densities))
        axes.axhline(0.0, color=LIGHT.ink, lw=0.9)
        axes.set_xscale("log")
        axes.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        axes.minorticks_off()
        shapes = (f"{shape} {source}" for shape, source in zip(_SHAPES, sources))
        axes.set_xlabel(f"training interactions per item ({', '.join(shapes)})")
        axes.set_ylabel(f"gain over the tuned base, % ({cells[0].metric.upper()})")
        add_legend(figure, shades)
    return figure


def _labels(
    cells: Sequence[Cell], interactions: Mapping[str, float]
) -> dict[tuple[float, float], list[str]]:
    """Return the models to name at each point: one label for points that are close together."""
    made: dict[tuple[float, float], list[str]] = {}
    for cell in sorted(cells, key=lambda cell: (_density(cell, interactions), cell.gain.mean)):
        density, gain = _density(cell, interactions), cell.gain.mean
        last = next(reversed(made), (0.0, 0.0))
        place = last if last[0] == density and gain - last[1] < _CLOSE else (density, gain)
        made.setdefault(place, []).append(cell.model.partition(" on ")[0])
    return made


def _metric(findings: Findings, cell: Cell) -> str | None:
    return findings.primary(cell.model)


def _source(cell: Cell) -> str:
    """Return the data set that a model's world is a share of."""
    return cell.model.partition(" on ")[2].rpartition("-")[0]


def _density(cell: Cell, interactions: Mapping[str, float]) -> float:
    return interactions[cell.model.partition(" on ")[2]]
