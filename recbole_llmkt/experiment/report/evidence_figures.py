"""Figures of the evidence: gains with intervals, slices, and the map of the profiles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from recbole_llmkt.evaluation.slices import TAIL_ITEMS
from recbole_llmkt.experiment.report.figures import (
    LIGHT,
    Theme,
    add_legend,
    arm_colours,
    legend_in_rows,
    style,
)
from recbole_llmkt.experiment.report.findings import Findings, SliceCells
from recbole_llmkt.experiment.report.hover import say
from recbole_llmkt.experiment.report.statistics import BASE, Cell, Estimate
from recbole_llmkt.experiment.report.tables import gain_text, interval_text, named_text, star

Parts = list[tuple[SliceCells, list[Cell]]]

MOST_CATEGORIES = 7
# Paul Tol's bright palette and two more, which colour-blind readers can tell apart.
_CATEGORY_COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#EE8866")
_OTHER = "other"
_OTHER_COLOUR = "#848d97"


def forest_title(findings: Findings) -> str:
    """Return what the forest plot shows, by what it draws: two seeds have no bootstrap."""
    gains = [cell.gain for cell in _gains(findings) if cell.gain is not None]
    title = "Gain over base, mean over seeds"
    if any(gain.low is not None for gain in gains):
        title += "; thin: 95% interval by Student's t"
    if any(any(_cut(gain, _limits(gains))) for gain in gains):
        title += " (an arrow: it goes on)"
    if any(gain.boot_low is not None for gain in gains):
        title += "; thick: by bootstrap (too narrow for few seeds)"
    return title


def _gains(findings: Findings) -> list[Cell]:
    """Return the cells that compare an arm with base by the primary metric."""
    return [
        cell
        for cell in findings.cells
        if cell.gain is not None and cell.metric == findings.primary(cell.model)
    ]


def forest_figure(findings: Findings, theme: Theme = LIGHT) -> Figure | None:
    """Draw each arm's gain over base by the primary metric, with its 95% intervals over seeds.

    The thin line is Student's interval, the thick one the bootstrap's. Where an interval reaches
    over the edge, an arrow says so.

    Returns
    -------
    Figure or None
        None if no arm can be compared with base.
    """
    cells = _gains(findings)
    if not cells:
        return None
    shades = arm_colours(findings.unique("arm"), theme)
    with matplotlib.rc_context({**style(theme), "axes.grid.axis": "x"}):
        height = 1.3 + 0.3 * len(cells) + 0.15 * len({cell.model for cell in cells})
        figure = Figure(figsize=(8.0, min(height, 30.0)), layout="constrained")
        axes = figure.subplots()
        places = _places(cells)
        for cell, place in zip(cells, places):
            _draw_gain(
                axes, cell, place, shades[cell.arm], gain_text(cell.gain) + star(findings, cell)
            )
        axes.set_yticks(places, [f"{cell.model}  {cell.arm}" for cell in cells])
        axes.set_ylim(max(places) + 0.7, -0.7)
        axes.axvline(0.0, color=theme.ink, lw=0.9, zorder=1)
        for label in axes.texts:  # the line does not strike them through
            label.set_bbox({"facecolor": theme.paper, "edgecolor": "none", "pad": 0.6})
        axes.set_xlabel(f"gain over base, % ({', '.join(_metrics(cells))})")
        gains = [cell.gain for cell in cells if cell.gain is not None]
        axes.set_xlim(_limits(gains))
        for cell, gain, place in zip(cells, gains, places):
            _draw_arrows(axes, gain, place, shades[cell.arm])
    return figure


def _places(cells: Sequence[Cell]) -> list[float]:
    """Return a height for each cell, with a gap between models."""
    places, height = [], 0.0
    for number, cell in enumerate(cells):
        if number and cell.model != cells[number - 1].model:
            height += 0.5
        places.append(height)
        height += 1.0
    return places


def _draw_gain(axes: Axes, cell: Cell, place: float, colour: str, label: str) -> None:
    gain = cell.gain
    assert gain is not None
    if gain.low is not None and gain.high is not None:
        axes.plot([gain.low, gain.high], [place, place], color=colour, lw=1.2)
    if gain.boot_low is not None and gain.boot_high is not None:
        axes.plot([gain.boot_low, gain.boot_high], [place, place], color=colour, lw=5, alpha=0.45)
    (marker,) = axes.plot(gain.mean, place, "o", color=colour, ms=6)
    say(
        marker,
        f"{named_text(cell)} ({interval_text(gain)})" if gain.low is not None else named_text(cell),
    )
    axes.annotate(
        label, (gain.mean, place), (0, 6), textcoords="offset points", ha="center", fontsize=8
    )


def _draw_arrows(axes: Axes, gain: Estimate, place: float, colour: str) -> None:
    """Mark the ends of an interval that are beyond the axes."""
    limits = axes.get_xlim()
    for edge, marker, is_cut in zip(limits, "<>", _cut(gain, limits)):
        if is_cut:
            axes.plot(edge, place, marker, color=colour, ms=7, clip_on=False)


def _cut(gain: Estimate, limits: tuple[float, float]) -> tuple[bool, bool]:
    """Return whether an interval goes on beyond the left and the right edge."""
    left, right = limits
    return (
        gain.low is not None and gain.low < left,
        gain.high is not None and gain.high > right,
    )


def _limits(gains: Sequence[Estimate]) -> tuple[float, float]:
    """Cut off the wide intervals of two or three seeds, so that the gains stay readable."""
    reach = 4.0 * max(1.0, *(abs(gain.mean) for gain in gains))
    ends = [0.0, *(gain.mean for gain in gains)]
    ends += [end for gain in gains for end in (gain.low, gain.high) if end is not None]
    low, high = max(min(ends), -reach), min(max(ends), reach)
    margin = 0.06 * max(1.0, high - low)
    return low - margin, high + margin


def slices_figure(findings: Findings, theme: Theme = LIGHT) -> Figure | None:
    """Draw the primary metric in each slice: a bar for each arm, its deviation over seeds.

    Returns
    -------
    Figure or None
        None if no slices were measured.
    """
    models = [model for model in findings.unique("model") if _bars(findings, model)]
    if not models:
        return None
    shades = arm_colours(findings.unique("arm"), theme)
    with matplotlib.rc_context(style(theme)):
        figure = Figure(figsize=(9.6, 0.6 + 2.6 * len(models)), layout="constrained")
        rows = figure.subfigures(len(models), 1, squeeze=False)[:, 0]
        for row, model in zip(rows, models):
            groups = _by_scale(_bars(findings, model))
            widths = [len(parts) for parts in groups]
            panels = row.subplots(1, len(groups), width_ratios=widths, squeeze=False)[0]
            panels[0].set_ylabel((findings.primary(model) or "").upper())
            row.suptitle(model, fontsize=11)
            for axes, parts in zip(panels, groups):
                _draw_parts(axes, parts, shades)
        add_legend(figure, shades)
    return figure


def _bars(findings: Findings, model: str) -> Parts:
    metric = findings.primary(model)
    parts = [
        (part, [cell for cell in part.cells if (cell.model, cell.metric) == (model, metric)])
        for part in findings.slices
    ]
    return [(part, cells) for part, cells in parts if cells]


def _by_scale(parts: Parts) -> list[Parts]:
    """Put tail items on an axis of their own: their values are far smaller."""
    tail = [part for part in parts if part[0].name == TAIL_ITEMS]
    return [group for group in ([part for part in parts if part not in tail], tail) if group]


def _draw_parts(axes: Axes, parts: Parts, shades: Mapping[str, str]) -> None:
    names = [f"{part.part}\n{part.users:.0f} users" for part, _ in parts]
    axes.set_xticks(range(len(parts)), names, fontsize=8)
    axes.set_xlim(-0.5, len(parts) - 0.5)
    axes.margins(y=0.12)
    for place, (_, cells) in enumerate(parts):
        _draw_bars(axes, place, cells, shades)
    if not any(cell.value.mean for _, cells in parts for cell in cells):
        axes.set_ylim(0.0, 1.0)  # nothing to see, and no values below zero


def _draw_bars(axes: Axes, place: int, cells: Sequence[Cell], shades: Mapping[str, str]) -> None:
    arms = list(shades)
    width = 0.84 / len(arms)
    for cell in cells:
        x = place + (arms.index(cell.arm) - (len(arms) - 1) / 2) * width
        sd = cell.value.sd or 0.0
        (bar,) = axes.bar(x, cell.value.mean, 0.92 * width, color=shades[cell.arm])
        say(bar, named_text(cell))
        if sd:
            axes.errorbar(x, cell.value.mean, sd, color=axes.yaxis.label.get_color(), lw=1)
        if cell.gain is not None:
            where = (x, cell.value.mean + sd)
            label = gain_text(cell.gain)
            axes.annotate(label, where, (0, 2), textcoords="offset points", ha="center", fontsize=6)


def map_figure(findings: Findings, theme: Theme = LIGHT) -> Figure | None:
    """Draw where the profile embeddings lie, coloured by category.

    Returns
    -------
    Figure or None
        None if there is no map.
    """
    if not findings.maps:
        return None
    with matplotlib.rc_context({**style(theme), "axes.grid": False}):
        figure = Figure(figsize=(5.2 * len(findings.maps), 4.8), layout="constrained")
        panels = figure.subplots(1, len(findings.maps), squeeze=False)[0]
        for axes, embedding_map in zip(panels, findings.maps):
            axes.set_title(f"{embedding_map.entity} profiles, {embedding_map.method}")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            categories = embedding_map.categories
            shades = _category_colours(categories)
            names = np.array([name if name in shades else _OTHER for name in categories])
            for name, shade in reversed(shades.items()):
                points = embedding_map.points[names == name]
                # Rasterized: thousands of circles would make the page slow.
                axes.scatter(*points.T, s=7, color=shade, alpha=0.75, lw=0, rasterized=True)
            if len(shades) > 1:
                handles = [
                    Line2D([], [], marker="o", ls="", ms=5, color=shade, label=name)
                    for name, shade in shades.items()
                ]
                # A legend wider than its axes would make the layout squeeze them.
                legend_in_rows(
                    axes,
                    handles,
                    0.9 * figure.bbox.width / len(findings.maps),
                    loc="upper center",
                    bbox_to_anchor=(0.5, -0.01),
                    fontsize=8,
                )
    return figure


def _category_colours(categories: Iterable[str]) -> dict[str, str]:
    counts = Counter(str(name) for name in categories if name)
    common = [name for name, _ in counts.most_common(MOST_CATEGORIES)]
    return {**dict(zip(common, _CATEGORY_COLOURS)), _OTHER: _OTHER_COLOUR}


def _metrics(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.metric.upper() for cell in cells if cell.arm != BASE))
