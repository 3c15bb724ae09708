"""Profiles without a language model: a plain description from the metadata."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from recbole_llmkt.profiles.generation.generators.base import (
    Answer,
    Generator,
    Request,
)
from recbole_llmkt.profiles.store import longest_text
from recbole_llmkt.utils.types import SettingsLike, Values

logger = logging.getLogger(__name__)

_N_CATEGORIES = 5


class TemplateGenerator(Generator):
    """Describe categories, years, likes and dislikes in fixed sentences.

    It needs no language model, and so it is the control that shows what one adds: it sees the
    same interactions, and knows nothing that is not in the atomic files. Titles of a user's items
    are never named. A description that is longer than a profile may be
    (:func:`~recbole_llmkt.profiles.store.longest_text`) is cut at a blank, and ends in an ellipsis.
    """

    uses_prompt = False
    is_language_model = False

    def __init__(self, settings: SettingsLike) -> None:
        super().__init__(settings)
        logger.info(
            "profile_generator: template writes plain descriptions from the metadata; "
            "no language model is used."
        )

    @classmethod
    def model_of(cls, settings: SettingsLike) -> str:
        """Return ``""``: there is no model."""
        return ""

    def answer_batch(self, requests: list[Request]) -> list[Answer]:
        """Describe each entity."""
        longest = longest_text(self.settings)
        describe = {"user": _describe_user, "item": _describe_item}
        return [
            Answer(
                request.id,
                _cut(describe[request.entity](request.context), longest),
                history=request.history,
            )
            for request in requests
        ]


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[: longest - 4].rsplit(None, 1)[0]} ..."


def _describe_user(context: Values) -> str:
    items = context["items"]
    seen = f"{context['n_interactions']} interactions"
    if context["has_ratings"]:
        values = [float(item["rating"]) for item in items]
        mean = sum(values) / len(values)
        seen += f", rated {mean:.1f} of {context['rating_high']} on average"
        liked = [item for item, value in zip(items, values) if value >= mean]
        disliked = [item for item, value in zip(items, values) if value < mean]
        tastes = [_categories("Likes", liked, seen), _years("The favourites", liked)]
        tastes.append(_categories("Rates lower", disliked))
    else:
        tastes = [_categories("Chooses", items, seen), _years("The choices", items)]
    if not tastes[0]:
        tastes[0] = f"This user has {seen}."
    return " ".join(sentence for sentence in tastes if sentence)


def _categories(verb: str, items: Iterable[Values], basis: str = "") -> str:
    """Return the commonest categories, and what that goes by.

    A sentence of mere numbers would be given as the reason of a recommendation.
    """
    counts = Counter(category for item in items for category in item["categories"])
    # Equal counts in the order of the alphabet, so that the text does not depend on the order.
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:_N_CATEGORIES]
    total = sum(counts.values())
    shares = ", ".join(f"{name} ({100 * count / total:.0f}%)" for name, count in ranked)
    if not shares:
        return ""
    return f"{verb} {shares}, going by {basis}." if basis else f"{verb} {shares}."


def _years(what: str, items: Iterable[Values]) -> str:
    years = sorted(int(item["year"]) for item in items if item["year"])
    if not years:
        return ""
    low, middle, high = years[0], years[len(years) // 2], years[-1]
    return f"{what} date from {low} to {high}, half of them from {middle} or later."


def _describe_item(context: Values) -> str:
    parts = [str(context["title"]) + (f" ({context['year']})" if context["year"] else "") + "."]
    if context["categories"]:
        parts.append(f"Categories: {', '.join(context['categories'])}.")
    parts += [
        f"{name}: {value}." for name, value in context["other"].items() if value != context["year"]
    ]
    parts.append(context["text"])
    return " ".join(part for part in parts if part)
