"""Recommendations as text, JSON lines or an HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import resources

import jinja2

from recbole_llmkt.recommend.recommender import Recommendation, RecommendedItem
from recbole_llmkt.utils import text
from recbole_llmkt.utils.text import one_line
from recbole_llmkt.utils.types import RunConfig, Settings


def text_lines(recommendation: Recommendation) -> Iterator[str]:
    """Yield lines for a terminal: each item with its reasons below."""
    yield f"User {one_line(recommendation.user)}"
    for rank, item in enumerate(recommendation.items, start=1):
        token = "" if item.title == item.token else f" [{one_line(item.token)}]"
        yield f"{rank:3d}. {one_line(item.title)}{token}  {item.score:.4g}"
        for reason in item.explanation.reasons:
            yield f'       {reason.cosine:+.2f}  "{one_line(reason.sentence)}"'
        if item.explanation.note:
            yield f"              {one_line(item.explanation.note)}"
    yield ""


def json_line(recommendation: Recommendation) -> str:
    """Return one JSON object: ``user`` and ``items``."""
    items = [_plain(item) for item in recommendation.items]
    return text.json_line({"user": recommendation.user, "items": items})


def _plain(item: RecommendedItem) -> Settings:
    return {
        "item": item.token,
        "title": item.title,
        "score": item.score,
        "reasons": [
            {
                "sentence": reason.sentence,
                "cosine": round(reason.cosine, 4),
                "margin": None if reason.margin is None else round(reason.margin, 4),
            }
            for reason in item.explanation.reasons
        ],
        "note": item.explanation.note,
    }


def page(recommendations: Iterable[Recommendation], config: RunConfig) -> str:
    """Return a self-contained HTML page.

    Parameters
    ----------
    recommendations : iterable of Recommendation
        What it shows.
    config : recbole_llmkt.config.Config
        For the names of model, dataset and encoder.
    """
    source = resources.files("recbole_llmkt.recommend").joinpath("page.html").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=text.finalize
    )
    return environment.from_string(source).render(
        model=config["model"],
        dataset=config["dataset"],
        encoder=config["profile_encoder"],
        recommendations=list(recommendations),
    )
