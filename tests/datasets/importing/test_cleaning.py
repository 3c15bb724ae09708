"""Texts, categories and ids."""

from __future__ import annotations

import pandas as pd
import pytest

from recbole_llmkt.datasets.importing.cleaning import (
    clean_id,
    clean_text,
    each_once,
    id_problem,
    sequence_separator,
    split_parts,
    with_points,
)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Zo\u0065\u0308", "Zoë"),
        ("a &amp;amp; b &lt;b&gt;c&lt;/b&gt;", "a & b c"),
        ("<ul><li>one</li><li>two</li></ul>", "one two"),
        ("<P class='x'>Big<BR/>bang</P>", "Big bang"),
        ("<b>N</b>ew", "New"),
        ("I <3 you, 1 < 2 > 0, <Untitled>", "I <3 you, 1 < 2 > 0, <Untitled>"),
        ("a<script>alert('<b>')</script><!-- x -->b", "a b"),
        ("a\tb\r\nc\u00a0 d\u200b\x07", "a b c d"),
        ('"The Rake"', "The Rake"),
        ("\u201cThe Rake\u201d", "The Rake"),
        ('"The" and "that"', '"The" and "that"'),
        ("&quot;soft&quot; rake", '"soft" rake'),
        ("", ""),
    ],
)
def test_texts(text, cleaned):
    assert clean_text(text) == cleaned
    assert clean_text(cleaned) == cleaned


@pytest.mark.parametrize(
    ("cell", "separator", "parts"),
    [
        ("Home Garden > Tools > Tools", ">", ("Home Garden", "Tools")),
        ("Home &gt; Garden; Tools &amp; Co.", ";", ("Home > Garden", "Tools & Co.")),
        ('[["Home", "Tools"], ["Rakes"]]', None, ("Home", "Tools", "Rakes")),
        ("['CDs & Vinyl', \"Children's\"]", None, ("CDs & Vinyl", "Children's")),
        ("[sic] a, b", None, ("[sic] a, b",)),
        ("a, b", None, ("a, b",)),
        ("", ">", ()),
    ],
)
def test_categories(cell, separator, parts):
    assert split_parts(cell, separator) == parts


def test_ids_that_recbole_takes_for_missing_get_a_prefix():
    parsers = pytest.importorskip("pandas._libs.parsers")
    for text in parsers.STR_NA_VALUES - {""}:
        assert clean_id(text) == f"id:{text}"
    assert clean_id("[PAD]") == "id:[PAD]"
    for text in ("na", " NA", "SKU\u00a01", "007", "a "):
        assert clean_id(text) == text
    assert clean_id("Zo\u0065\u0308") == "Zoë"


def test_ids_that_no_file_can_hold():
    assert (
        id_problem("a\tb") and id_problem("a\nb") and id_problem("a\x00") and id_problem("\ud800")
    )
    assert id_problem("SKU\u00a01 ü/\"'") is None


def test_each_text_is_changed_once():
    seen = []
    column = each_once(pd.Series(["a", "b", "a"]), lambda text: seen.append(text) or text.upper())
    assert column.tolist() == ["A", "B", "A"] and seen == ["a", "b"]


def test_the_separator_is_in_no_part():
    assert sequence_separator(["Home Garden"]) == "|"
    assert sequence_separator({"a|b", "c;d"}) == "/"
    assert sequence_separator(()) == "|"


@pytest.mark.parametrize(
    ("cells", "plain"),
    [
        (["49,82", "1.234,50", "7", "-0,5", ""], ["49.82", "1234.50", "7", "-0.5", ""]),
        (["1,234.50", "12,000", "7"], ["1234.50", "12000", "7"]),
        (["1,234", "7"], None),  # a decimal comma, or thousands
        (["49,82", "12.5"], None),
        (["49,82", "red"], None),
        (["007,5"], None),
        (["1.5", "2"], None),
    ],
)
def test_numbers_with_commas(cells, plain):
    assert with_points(pd.Series(cells, dtype=object)).tolist() == (plain or cells)
