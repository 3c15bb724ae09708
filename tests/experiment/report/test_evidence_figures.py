"""What the figures of the evidence show: gains, slices and categories."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from recbole_llmkt.experiment.report.embedding_map import EmbeddingMap
from recbole_llmkt.experiment.report.evidence_figures import (
    MOST_CATEGORIES,
    forest_figure,
    forest_title,
    map_figure,
    slices_figure,
)
from recbole_llmkt.experiment.report.figures import as_svg
from recbole_llmkt.experiment.report.findings import Findings, slice_cells
from recbole_llmkt.experiment.report.statistics import summarise
from recbole_llmkt.experiment.runs.records import SlicePart
from tests.experiment.fake_runs import as_record


def findings_of(records=(), maps=()):
    return Findings(records, records, summarise(records, []), [], [], [], maps)


def run(arm, seed, value):
    settings = {"valid_metric": "NDCG@10"}
    values = {"model": "BPR", "arm": arm, "seed": seed, "status": "ok", "settings": settings}
    return as_record({**values, "test": {"ndcg@10": value, "hit@10": 0.9}})


def test_without_a_base_slices_or_maps_there_is_no_figure():
    alone = findings_of([run("kt", 1, 0.1)])
    assert forest_figure(alone) is None
    assert slices_figure(alone) is None
    assert map_figure(alone) is None


def test_the_forest_shows_the_gain_by_the_primary_metric_alone():
    findings = findings_of([run("base", 1, 0.1), run("kt", 1, 0.12), run("kt+x", 1, 0.05)])
    (axes,) = forest_figure(findings).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["BPR  kt", "BPR  kt+x"]
    points = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert points == pytest.approx([20.0, -50.0])
    assert "NDCG@10" in axes.get_xlabel()
    low, high = axes.get_xlim()
    assert low < -50.0 < 20.0 < high


def test_an_interval_that_goes_on_beyond_the_edge_has_an_arrow_and_the_caption_tells():
    values = {("base", 1): 0.1, ("base", 2): 0.1, ("kt", 1): 0.101, ("kt", 2): 0.119}
    findings = findings_of([run(arm, seed, value) for (arm, seed), value in values.items()])
    figure = forest_figure(findings)
    (axes,) = figure.axes
    arrows = {line.get_marker(): line.get_xdata()[0] for line in axes.lines}
    assert (arrows["<"], arrows[">"]) == axes.get_xlim()
    assert "an arrow: it goes on" in forest_title(findings)
    assert "bootstrap" not in forest_title(findings)  # two seeds have none
    assert all(text.get_bbox_patch() is not None for text in axes.texts)


def test_an_interval_that_fits_has_no_arrow():
    pairs = [("base", 0.1), ("kt", 0.11)]
    values = [run(arm, seed, value + seed / 1e5) for arm, value in pairs for seed in range(4)]
    findings = findings_of(values)
    (axes,) = forest_figure(findings).axes
    assert not {"<", ">"} & {line.get_marker() for line in axes.lines}
    assert "goes on" not in forest_title(findings) and "bootstrap" in forest_title(findings)


def test_a_slice_without_a_hit_begins_at_zero():
    tail = SlicePart("tail_items", "tail", "", users=2, rows=2, metrics={"ndcg@10": 0.0})
    runs = [replace(run(arm, 1, 0.1), slices=[tail]) for arm in ("base", "kt")]
    findings = replace(findings_of(runs), slices=slice_cells(runs, []))
    (axes,) = slices_figure(findings).axes
    assert axes.get_ylim() == (0.0, 1.0)


def test_rare_categories_share_one_colour():
    names = [f"c{number}" for number in range(MOST_CATEGORIES + 2) for _ in range(20 - number)]
    categories = np.array([*names, ""])
    points = np.zeros((len(categories), 2), dtype=np.float32)
    figure = map_figure(findings_of(maps=[EmbeddingMap("item", "PCA", points, categories)]))
    (axes,) = figure.axes
    assert axes.get_title() == "item profiles, PCA"
    assert len(axes.collections) == MOST_CATEGORIES + 1
    assert sum(len(layer.get_offsets()) for layer in axes.collections) == len(categories)
    rest = sum(20 - number for number in (MOST_CATEGORIES, MOST_CATEGORIES + 1)) + 1
    assert len(axes.collections[0].get_offsets()) == rest  # below all others


def test_a_name_is_no_formula():
    points = np.zeros((1, 2), dtype=np.float32)
    named = EmbeddingMap("item", "PCA", points, np.array([r"$5 \input{x} to $9"]))
    assert r"$5 \input{x} to $9" in as_svg(map_figure(findings_of(maps=[named])))


def test_a_picture_is_xml_whatever_the_names():
    points = np.zeros((1, 2), dtype=np.float32)
    figure = map_figure(findings_of(maps=[EmbeddingMap("i\x1b[1mtem", "P\x00CA", points, [""])]))
    (title,) = (axes.get_title() for axes in figure.axes)
    ElementTree.fromstring(as_svg(figure))
    assert "\x1b" in title and figure.axes[0].get_title() == "item profiles, PCA"
