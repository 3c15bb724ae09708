from __future__ import annotations

import pytest

from recbole_llmkt.recommend.sentences import sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("   \n\n --- \n", []),
        ("no dot at the end", ["no dot at the end"]),
        ("One. Two! Three? Four… Five... Six",
         ["One.", "Two!", "Three?", "Four…", "Five...", "Six"]),
        ("A paragraph without a dot\n\nAnother.", ["A paragraph without a dot", "Another."]),
        ("- Likes noir.\n- Dislikes musicals\n3) Rates 3.5 stars.",
         ["Likes noir.", "Dislikes musicals", "Rates 3.5 stars."]),
        ("Loves Mr. Bean, Dr. No and J. R. R. Tolkien. Hates 8 mm.",
         ["Loves Mr. Bean, Dr. No and J. R. R. Tolkien.", "Hates 8 mm."]),
        ("Set in the U.S. Army. World War II. Good.",
         ["Set in the U.S. Army.", "World War II.", "Good."]),
        ("Crime, war etc. as ever; e.g. Heat.", ["Crime, war etc. as ever; e.g. Heat."]),
        ('Likes "Alien." Calls it "art!" (Twice.) Done.',
         ['Likes "Alien."', 'Calls it "art!"', "(Twice.)", "Done."]),
        ("喜欢科幻片。不喜欢音乐剧！", ["喜欢科幻片。", "不喜欢音乐剧！"]),  # noqa: RUF001
        ("Élan vital. Überfilme sind gut.", ["Élan vital.", "Überfilme sind gut."]),
    ],
)  # fmt: skip
def test_sentences(text, expected):
    assert sentences(text) == expected
