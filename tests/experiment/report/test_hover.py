"""Values under the pointer: each marker, bar and point of a curve, where the picture draws it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from recbole_llmkt.experiment.report.figures import as_svg
from recbole_llmkt.experiment.report.hover import say, spots


def test_spots_are_where_the_ink_is():
    figure = Figure(figsize=(4, 3), layout="constrained")
    axes = figure.subplots()
    (bar,) = axes.bar(3.0, 2.0, 0.8, color="#ff0000")
    (line,) = axes.plot([0.0, 1.0, 2.0], [0.25, 1.5, np.nan], "o", color="#0000ff")
    (marker,) = axes.plot(2.0, 1.0, "o", color="#00ff00")
    say(bar, "bar")
    say(line, "BPR, epoch")
    say(marker, "one\x1b[31m")
    as_svg(figure)
    found = {spot.text: spot for spot in spots(figure)}
    assert set(found) == {"bar", "BPR, epoch 0: 0.2500", "BPR, epoch 1: 1.5000", "one"}

    content = io.BytesIO()
    figure.savefig(content, format="png")
    content.seek(0)
    pixels = imread(content)
    for text, colour in (("bar", 0), ("BPR, epoch 1: 1.5000", 2), ("one", 1)):
        spot = found[text]
        row, column = spot.top / 100 * len(pixels), spot.left / 100 * pixels.shape[1]
        assert np.argmax(pixels[int(row), int(column), :3]) == colour
        assert pixels[int(row), int(column), :3].sum() == pytest.approx(1.0, abs=0.05)
    red = (pixels[..., 0] > 0.9) & (pixels[..., 1] < 0.1)
    assert found["bar"].width == pytest.approx(100 * red.any(0).mean(), abs=1.0)
    assert found["bar"].height == pytest.approx(100 * red.any(1).mean(), abs=1.0)
    assert found["one"].width == 0.0
