"""Pictures of many arms: nothing is cut off, and colours tell the arms apart."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from recbole_llmkt.experiment.report.embedding_map import EmbeddingMap
from recbole_llmkt.experiment.report.evidence_figures import map_figure, slices_figure
from recbole_llmkt.experiment.report.figures import (
    DARK,
    LIGHT,
    THEMES,
    arm_colours,
    as_svg,
    curves_figure,
    darkened,
    summary_figure,
)
from recbole_llmkt.experiment.report.findings import Findings, SliceCells, sorted_records
from recbole_llmkt.experiment.report.statistics import summarise
from tests.experiment.fake_runs import as_record

READY = ["base", "kt", "shuffled", "random"]
LOSSES = ["rmse", "infonce", "cosine", "gram", "cka", "kl", "triplet", "relational"]
OWN = [arm for loss in LOSSES for arm in (loss, f"{loss}+shuffled")]
FIVE = ["base", "kt", "shuffled", *OWN[:6]]
SEVENTEEN = ["base", *OWN]
GENRES = ["Broadway & Vocalists", "Children's Music", "Rap & Hip-Hop", "Jazz", "Christian & Gospel"]


def record(arm, seed):
    value = 0.1 + 0.01 * SEVENTEEN.index(arm) if arm in SEVENTEEN else 0.1
    values = {
        **{"model": "BPR", "arm": arm, "seed": seed, "status": "ok"},
        **{"settings": {"valid_metric": "NDCG@10"}, "curve": [[0, value / 2], [3, value]]},
        "test": {"ndcg@10": value + seed / 1000, "hit@10": 2 * value},
    }
    return as_record(values)


def pictures(arms, theme):
    """Draw all pictures that have a legend."""
    records = sorted_records([record(arm, seed) for arm in arms for seed in (1, 2)])
    cells = summarise(records)
    slices = [SliceCells("history", f"part {number}", "b", 9.0, cells) for number in (1, 2)]
    points = np.random.default_rng(0).normal(size=(50, 2))
    maps = [
        EmbeddingMap(entity, "PCA", points, np.array(GENRES * 10)) for entity in ("user", "item")
    ]
    findings = Findings(records, records, cells, [], [], slices, maps)
    return {
        "summary": summary_figure(cells, records, theme),
        "curves": curves_figure(records, theme),
        "slices": slices_figure(findings, theme),
        "map": map_figure(findings, theme),
    }


@pytest.mark.parametrize("theme", THEMES, ids=["light", "dark"])
@pytest.mark.parametrize("arms", [FIVE, SEVENTEEN], ids=["five and controls", "seventeen"])
def test_no_legend_is_cut_off_or_squeezes_the_axes(arms, theme):
    for name, figure in pictures(arms, theme).items():
        figure.draw_without_rendering()
        legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
        boxes = [legend.get_window_extent() for legend in legends if legend is not None]
        assert boxes, name
        for box in boxes:
            assert box.x0 >= 0 and box.x1 <= figure.bbox.width, name
            assert box.y0 >= 0 and box.y1 <= figure.bbox.height, name
        for axes in figure.axes:
            assert axes.bbox.height > 1.5 * figure.dpi, name
            assert axes.bbox.y0 >= boxes[0].y1 or name == "map", name


@pytest.mark.parametrize("arms", [FIVE[:3], FIVE, SEVENTEEN], ids=["few", "five", "seventeen"])
def test_the_gains_of_neighbours_do_not_overlap(arms):
    records = [
        replace(record(arm, seed), test={"ndcg@10": 0.1 + seed / 1000, "hit@10": 0.3})
        for arm in arms
        for seed in (1, 2)
    ]
    figure = summary_figure(summarise(sorted_records(records)), records)
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) == len(arms) - 1
        assert not any(text_box.overlaps(other) for text_box, other in combinations(boxes, 2))
        assert all(box.y1 <= axes.bbox.y1 + 1 for box in boxes)


@pytest.mark.parametrize(("n_metrics", "n_rows"), [(4, 1), (5, 2), (9, 3)])
def test_every_metric_is_drawn(n_metrics, n_rows):
    test = {f"metric{number}": 0.1 for number in range(n_metrics)}
    records = [replace(record(arm, 1), test=test) for arm in FIVE[:2]]
    drawn = summary_figure(summarise(records), records).axes
    panels = [axes for axes in drawn if axes.axison]
    assert [axes.get_title() for axes in panels] == [name.upper() for name in test]
    assert drawn[0].get_gridspec().nrows == n_rows


def test_epochs_are_whole_numbers():
    curve = [(epoch, 0.1 * epoch) for epoch in range(4)]
    (axes,) = curves_figure([replace(record("base", 1), curve=curve)]).axes
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_a_darkened_picture_is_the_picture_drawn_dark():
    records = [record(arm, seed) for arm in SEVENTEEN for seed in (1, 2)]
    cells = summarise(sorted_records(records))
    svgs = []
    for theme in THEMES:
        figure = summary_figure(cells, records, theme)
        figure.set_layout_engine("none")
        svgs.append(as_svg(figure))
    light, dark = svgs
    assert without_names(darkened(light)) == without_names(dark) != without_names(light)


def without_names(svg):
    """Leave out what matplotlib names after a hash of colours."""
    return re.sub(r'(id="|"#|\(#)[mp]?[0-9a-f]{10,}', "", svg)


def test_few_arms_stay_in_one_row():
    legend = pictures(FIVE[:3], LIGHT)["summary"].legends[0]
    tops = {round(text.get_window_extent().y0) for text in legend.get_texts()}
    assert len(tops) == 1


@pytest.mark.parametrize("theme", THEMES, ids=["light", "dark"])
def test_the_ready_and_eight_own_arms_have_clearly_different_colours(theme):
    shades = arm_colours([*READY, *LOSSES], theme)
    for shade, other in combinations(shades, 2):
        assert np.linalg.norm(oklab(shades[shade]) - oklab(shades[other])) >= 0.1, (shade, other)
    for arm in LOSSES:
        assert contrast(shades[arm], theme.paper) > 2.9, arm


def test_a_control_has_a_paler_shade_of_its_arm():
    shades = arm_colours(SEVENTEEN, DARK)
    for loss in LOSSES:
        arm, pale, paper = (
            linear(colour) for colour in (shades[loss], shades[f"{loss}+shuffled"], DARK.paper)
        )
        assert (np.minimum(arm, paper) <= pale).all() and (pale <= np.maximum(arm, paper)).all()
        assert contrast(shades[f"{loss}+shuffled"], DARK.paper) > 1.9


def linear(colour):
    """Return linear red, green and blue of ``#rrggbb``."""
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(colour, other):
    """Return the contrast of two colours as the Web Content Accessibility Guidelines define it."""
    low, high = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) + 0.05 for c in (colour, other))
    return high / low


def oklab(colour):
    """Return a colour in Oklab (Ottosson, 2020), whose distances are those that people see."""
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    axes = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return axes @ np.cbrt(cones @ linear(colour))


def test_a_model_that_is_validated_once_has_no_curve():
    once = replace(record("base", 1), curve=[(0, 0.1)])
    assert curves_figure([once]) is None
    drawn = curves_figure([replace(once, model="EASE"), record("base", 2)])
    assert [axes.get_title() for axes in drawn.axes] == ["BPR"]
