"""Recommendations as text, JSON and a page."""

from __future__ import annotations

import json

from recbole_llmkt.recommend.explain import Explanation, Reason
from recbole_llmkt.recommend.recommender import Recommendation, RecommendedItem
from recbole_llmkt.recommend.render import json_line, page, text_lines

MADE = Recommendation(
    "u1",
    (
        RecommendedItem(
            "i1", "<b>War</b>\x1b[31m", 12.34567, Explanation((Reason("Adores\nwar.", 0.98765),))
        ),
        RecommendedItem("i2", "i2", -0.00001234, Explanation((), "no profile of the item")),
    ),
)


def test_lines_for_a_terminal():
    user, first, reason, second, note, empty = text_lines(MADE)
    assert user == "User u1"
    assert first.startswith("  1. <b>War</b>")
    assert first.endswith(" [i1]  12.35")
    assert reason == '       +0.99  "Adores war."'
    assert second == "  2. i2  -1.234e-05"  # the token is not said twice
    assert note.strip() == "no profile of the item"
    assert empty == ""
    assert "\x1b" not in first


def test_json_is_one_line_and_loses_nothing():
    line = json_line(MADE)
    assert "\n" not in line
    assert "\x1b" not in line
    values = json.loads(line)
    assert values["user"] == "u1"
    assert values["items"][0] == {
        "item": "i1",
        "title": "<b>War</b>\x1b[31m",
        "score": 12.34567,
        "reasons": [{"sentence": "Adores\nwar.", "cosine": 0.9877, "margin": None}],
        "note": None,
    }


def test_titles_are_text_on_a_page_that_needs_no_other_file():
    html = page(iter([MADE]), {"model": "<BPR>", "dataset": "tiny", "profile_encoder": "x"})
    assert "&lt;b&gt;War&lt;/b&gt;" in html
    assert "<b>War" not in html
    assert "&lt;BPR&gt;" in html
    assert "src=" not in html
    assert "<link" not in html
