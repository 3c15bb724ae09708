"""Values that a page shows where the pointer rests on a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from recbole_llmkt.utils.text import printable


@dataclass(frozen=True)
class Spot:
    """A place in a picture and what it says.

    Attributes
    ----------
    left, top : float
        Of its middle, in percent of the picture's width and height.
    width, height : float
        In percent; 0 for a point.
    text : str
        What is said.
    """

    left: float
    top: float
    width: float
    height: float
    text: str


def say(artist: Artist, text: str) -> None:
    """Let a marker or a bar say something; the points of a line say it with their values."""
    artist.set_gid(printable(text))


def spots(figure: Figure) -> list[Spot]:
    """Return all places of a figure that say something; its layout must be fixed.

    What is not a number is drawn nowhere, and has no place.
    """
    places = []
    width, height = figure.bbox.size
    for artist in figure.findobj(lambda artist: bool(artist.get_gid())):
        text = str(artist.get_gid())
        if isinstance(artist, Line2D):
            values = np.column_stack(artist.get_data()).astype(float)
            for (x, y), (left, bottom) in zip(values, artist.get_transform().transform(values)):
                own = text if len(values) == 1 else f"{text} {x:g}: {y:.4f}"
                places.append((left, bottom, 0.0, 0.0, own))
        else:
            box = artist.get_window_extent()
            middle = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
            places.append((*middle, abs(box.width), abs(box.height), text))
    return [
        Spot(
            round(100 * left / width, 2),
            round(100 - 100 * bottom / height, 2),
            round(100 * wide / width, 2),
            round(100 * high / height, 2),
            text,
        )
        for left, bottom, wide, high, text in places
        if np.isfinite([left, bottom, wide, high]).all()
    ]
