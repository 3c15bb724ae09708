"""What the figures of the evidence show: gains, slices and categories."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_llmkt.experiment.report.embedding_map import EmbeddingMap
from recbole_llmkt.experiment.report.evidence_figures import (
    MOST_CATEGORIES,
    forest_figure,
    map_figure,
    slices_figure,
)
from recbole_llmkt.experiment.report.figures import as_svg
from recbole_llmkt.experiment.report.findings import Findings
from recbole_llmkt.experiment.report.statistics import summarise
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
