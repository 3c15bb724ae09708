"""Descriptions without a language model, by hand."""

from __future__ import annotations

import pytest

from recbole_llmkt.profiles.generation.generators import get_generator
from recbole_llmkt.profiles.store import longest_text
from tests.profiles.generation.helpers import SETTINGS, request


def described(entity, context):
    (answer,) = get_generator(SETTINGS).answer_batch(
        [request("x", entity=entity, context=context, history="feed")]
    )
    assert answer.history == "feed"
    return answer.text


def item(rating, year, *categories):
    return {"title": "secret", "rating": rating, "year": year, "categories": categories}


USER = {"n_interactions": 9, "has_ratings": True, "rating_high": "5"}


def test_likes_and_dislikes_are_those_above_and_below_the_mean():
    items = [item("5", "1990", "War", "Drama"), item("4", "1980", "Drama"), item("1", "", "Noir")]
    assert described("user", {**USER, "items": items}) == (
        "Likes Drama (67%), War (33%), going by 9 interactions, rated 3.3 of 5 on average. "
        "The favourites date from 1980 to 1990, half of them from 1990 or later. "
        "Rates lower Noir (100%)."
    )


def test_equal_ratings_are_all_liked_and_equal_counts_follow_the_alphabet():
    items = [item("3", "", "Western"), item("3", "", "Animation")]
    assert described("user", {**USER, "items": items}) == (
        "Likes Animation (50%), Western (50%), going by 9 interactions, rated 3.0 of 5 on average."
    )


def test_without_categories_the_numbers_are_told_alone():
    context = {**USER, "items": [item("3", "")]}
    assert described("user", context) == (
        "This user has 9 interactions, rated 3.0 of 5 on average."
    )
    assert described("user", {**context, "has_ratings": False}) == "This user has 9 interactions."


@pytest.mark.parametrize(
    ("context", "text"),
    [
        (
            {"year": "1993", "categories": ["War"], "other": {"year": "1993", "by": "X"}},
            "A film (1993). Categories: War. by: X. About it.",
        ),
        ({"year": "", "categories": [], "other": {}}, "A film. About it."),
    ],
)
def test_items_by_their_metadata(context, text):
    assert described("item", {"title": "A film", "text": "About it.", **context}) == text


def test_a_long_description_is_cut_at_a_blank():
    longest = longest_text(SETTINGS)
    context = {"title": "A film", "year": "", "categories": [], "other": {}}
    text = described("item", {**context, "text": "word " * longest})
    assert longest - 10 < len(text) <= longest
    assert text.endswith("word ...")
