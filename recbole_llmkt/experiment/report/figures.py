"""The two pictures of a comparison: test metrics by arm, and learning curves."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from recbole_llmkt.experiment.report.hover import say
from recbole_llmkt.experiment.report.statistics import BASE, Cell
from recbole_llmkt.experiment.report.tables import gain_text, named_text
from recbole_llmkt.experiment.runs.records import RunRecord, of_arm
from recbole_llmkt.utils.files import replace_file
from recbole_llmkt.utils.text import printable

MAX_COLUMNS = 4  # panels beside each other
LABEL_WIDTH = 0.45  # inches, of a gain like "+12.3%"
_AXIS_WIDTH = 0.7  # inches, of a panel's numbers and margins
# Okabe and Ito's palette, which colour-blind readers can tell apart.
_COLOURS = {"shuffled": "#E69F00", "random": "#CC79A7"}


@dataclass(frozen=True)
class Theme:
    """Colours of a picture: of text and axes, of the background, and of the arms."""

    ink: str
    paper: str
    base: str
    kt: str
    own: tuple[str, ...]


# The colours of own arms were searched to be far from each other and from those of the other arms,
# for readers with normal vision as well as for red- and green-blind ones.
LIGHT = Theme(
    ink="#1f2328",
    paper="#ffffff",
    base="#6e7781",
    kt="#0072B2",
    own=(
        *("#037847", "#FE570E", "#7438D1", "#D51863"),
        *("#00AB74", "#B0501A", "#D015F2", "#9D8D41"),
    ),
)
DARK = Theme(
    ink="#e6edf3",
    paper="#0d1117",
    base="#9aa4ae",
    kt="#56B4E9",
    own=(
        *("#438B79", "#FE6D52", "#7D71D2", "#FF227E"),
        *("#31CD99", "#B36D45", "#DB54FF", "#BBD547"),
    ),
)
THEMES = (LIGHT, DARK)


def arm_colours(arms: Sequence[str], theme: Theme) -> dict[str, str]:
    """Return a colour for each arm; a control ``NAME+CONTROL`` has a paler one than its arm."""
    own = cycle(theme.own)
    known = {BASE: theme.base, "kt": theme.kt, **_COLOURS}
    for name in (arm.partition("+")[0] for arm in arms):
        known[name] = known[name] if name in known else next(own)
    return {
        arm: known[arm] if arm in known else _mixed(known[arm.partition("+")[0]], theme.paper)
        for arm in arms
    }


def _mixed(colour: str, other: str) -> str:
    """Return the colour halfway between two."""
    channels = [[int(code[at : at + 2], 16) for code in (colour, other)] for at in (1, 3, 5)]
    return "#" + "".join(f"{sum(pair) // 2:02x}" for pair in channels)


def summary_figure(
    cells: Sequence[Cell], records: Sequence[RunRecord], theme: Theme = LIGHT
) -> Figure:
    """Draw each metric's mean and standard deviation, its seeds as dots, its gain in percent.

    Parameters
    ----------
    cells : sequence of Cell
        What :func:`~recbole_llmkt.experiment.report.statistics.summarise` returned.
    records : sequence of RunRecord
        The runs behind them.
    theme : Theme
        Colours.
    """
    metrics = _unique(cell.metric for cell in cells)
    models = _unique(cell.model for cell in cells)
    arms = _unique(cell.arm for cell in cells)
    with matplotlib.rc_context(style(theme)):
        rows = math.ceil(len(metrics) / MAX_COLUMNS)
        columns = math.ceil(len(metrics) / rows)
        width = max(4.5, columns * (1.4 + 0.42 * len(models) * max(2, len(arms))))
        width = min(width, 12.0)
        figure = Figure(figsize=(width, 0.6 + 3.3 * rows), layout="constrained")
        # Horizontal labels of neighbours would overlap.
        apart = (width / columns - _AXIS_WIDTH) / len(models) * _step(len(arms))
        crowded = apart < LABEL_WIDTH
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in panels[len(metrics) :]:
            axes.set_axis_off()
        shades = arm_colours(arms, theme)
        for axes, metric in zip(panels, metrics):
            smaller = any(cell.smaller for cell in cells if cell.metric == metric)
            name = metric.upper() + (" ↓" if smaller else "")
            # Capitals are about .7 of their size wide; neighbours' titles must not meet.
            fitting = 72 * 0.95 * width / columns / (0.7 * len(name))
            axes.set_title(name, fontsize=min(12.0, fitting))
            axes.set_xticks(range(len(models)), models)
            axes.set_xlim(-0.5, len(models) - 0.5)
            axes.margins(y=0.3 if crowded else 0.16)
            for cell in (cell for cell in cells if cell.metric == metric):
                x = models.index(cell.model) + _offset(arms.index(cell.arm), len(arms))
                _draw_cell(axes, cell, x, _seeds_of(cell, records), shades[cell.arm], crowded)
        add_legend(figure, shades)
    return figure


def _draw_cell(
    axes: Axes, cell: Cell, x: float, seeds: Sequence[float], colour: str, crowded: bool
) -> None:
    value = cell.value
    marker, _, _ = axes.errorbar(
        x, value.mean, yerr=value.sd or 0.0, fmt="o", ms=7, color=colour, capsize=4, elinewidth=1.6
    )
    say(marker, named_text(cell))
    axes.plot([x] * len(seeds), seeds, "o", ms=3, color=colour, alpha=0.45)
    if cell.gain is not None:
        top = max([value.mean + (value.sd or 0.0), *seeds])
        label = gain_text(cell.gain)
        axes.annotate(
            label,
            (x, top),
            (0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            rotation="vertical" if crowded else "horizontal",
            color=colour,
        )


def curves_figure(records: Sequence[RunRecord], theme: Theme = LIGHT) -> Figure | None:
    """Draw the validation score by epoch, a line for each run, and where phase 2 begins.

    Returns
    -------
    Figure or None
        None if no run was validated more than once.
    """
    drawn = [record for record in records if record.curve and len(record.curve) > 1]
    if not drawn:
        return None
    models = _unique(record.model for record in drawn)
    arms = _unique(record.arm for record in drawn)
    with matplotlib.rc_context(style(theme)):
        figure = Figure(figsize=(min(12.0, max(4.5, 4.2 * len(models))), 3.6), layout="constrained")
        panels = figure.subplots(1, len(models), squeeze=False)[0]
        shades = arm_colours(arms, theme)
        for axes, model in zip(panels, models):
            own = [record for record in drawn if record.model == model]
            axes.set_title(model)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # there is no epoch 2.5
            axes.set_ylabel(f"validation {own[0].settings.get('valid_metric', 'score')}")
            for record in own:
                epochs, scores = zip(*record.curve)
                (line,) = axes.plot(epochs, scores, color=shades[record.arm], lw=1.3, alpha=0.85)
                say(line, f"{model} {record.arm}, seed {record.seed}, epoch")
            for switch in {(record.transfer or {}).get("phase_switch") for record in own}:
                if switch:
                    axes.axvline(switch - 0.5, color=theme.ink, lw=0.9, ls=":")
                    axes.annotate(
                        " phase 2",
                        (switch - 0.5, 0.02),
                        xycoords=("data", "axes fraction"),
                        fontsize=8,
                    )
        add_legend(figure, shades)
    return figure


def as_svg(figure: Figure) -> str:
    """Return a picture as SVG text, the same for the same picture; its layout is then fixed."""
    buffer = io.StringIO()
    for text in figure.findobj(Text):
        text.set_text(printable(text.get_text()))  # XML allows no control characters
    with matplotlib.rc_context({"svg.hashsalt": "recbole_llmkt"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    # Layouts take half of the time: what is saved next has the same one.
    figure.set_layout_engine("none")
    return buffer.getvalue()


def darkened(svg: str) -> str:
    """Return the SVG text of a picture of :data:`LIGHT` in the colours of :data:`DARK`.

    To draw it again would take a hundred times as long.
    """
    pairs = {
        LIGHT.ink: DARK.ink,
        LIGHT.paper: DARK.paper,
        **{colour: colour for colour in _COLOURS.values()},
        **dict(zip((LIGHT.base, LIGHT.kt, *LIGHT.own), (DARK.base, DARK.kt, *DARK.own))),
    }
    pale = {_mixed(old, LIGHT.paper): _mixed(new, DARK.paper) for old, new in pairs.items()}
    dark = {old.lower(): new.lower() for old, new in {**pale, **pairs}.items()}
    return re.sub("#[0-9a-f]{6}", lambda found: dark.get(found[0], found[0]), svg)


def save_png(figure: Figure, path: Path) -> None:
    """Write a picture as PNG, whole or not at all."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=160)
    replace_file(path, content.getvalue())


def style(theme: Theme) -> Any:
    """Return matplotlib's settings for a theme."""
    names = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    return {
        **{name: theme.ink for name in names},
        "figure.facecolor": theme.paper,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.grid.axis": "y",
        "grid.alpha": 0.25,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 10,
        "text.parse_math": False,  # a name with two dollar signs is no formula
    }


def add_legend(figure: Figure, shades: Mapping[str, str]) -> None:
    """Name the arms' colours below a figure; it grows by the rows of names after the first."""
    handles = [Line2D([], [], marker="o", color=shade, label=arm) for arm, shade in shades.items()]
    rows, height = legend_in_rows(figure, handles, figure.bbox.width, loc="outside lower center")
    more = height * (rows - 1) / rows
    figure.set_figheight(figure.get_figheight() + more / figure.dpi)


def legend_in_rows(
    owner: Figure | Axes, handles: Sequence[Line2D], width: float, **options: Any
) -> tuple[int, float]:
    """Add a legend that is not wider than its place, in as few rows as that allows.

    Parameters
    ----------
    owner : Figure or Axes
        Whose legend it is.
    handles : sequence of Line2D
        What it names.
    width : float
        Of its place, in pixels.
    **options
        Of matplotlib's ``legend``.

    Returns
    -------
    tuple of (int, float)
        Number of rows, and height in pixels.
    """
    for rows in range(1, len(handles) + 1):
        columns = math.ceil(len(handles) / rows)
        legend = owner.legend(handles=handles, ncols=columns, frameon=False, **options)
        extent = legend.get_window_extent()
        if columns == 1 or extent.width <= width:
            break
        legend.remove()
    return rows, extent.height


def _offset(number: int, count: int) -> float:
    return (number - (count - 1) / 2) * _step(count)


def _step(count: int) -> float:
    """Return how far apart so many arms of a model are; models are 1 apart."""
    return min(0.3, 0.85 / count)


def _seeds_of(cell: Cell, records: Sequence[RunRecord]) -> list[float]:
    return [
        record.test[cell.metric]
        for record in of_arm(records, cell.model, cell.arm)
        if cell.metric in record.test
    ]


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
