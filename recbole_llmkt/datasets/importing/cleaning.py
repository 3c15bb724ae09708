"""Texts without markup, category paths as their parts, and ids that RecBole reads back."""

from __future__ import annotations

import ast
import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from recbole_llmkt.utils.text import printable

# What RecBole (pandas) takes for a missing value, and its own name of the padding.
_NO_IDS = frozenset(
    (
        *("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
        *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null", "[PAD]"),
    )
)
_PREFIX = "id:"

# Only tags of HTML: "<3" and "<Untitled>" are texts.
_NAMES = (
    "a|abbr|acronym|address|article|aside|audio|b|base|basefont|bdi|bdo|big|blockquote|body|br|"
    "button|canvas|caption|center|cite|code|col|colgroup|dd|del|details|dfn|dialog|div|dl|dt|em|"
    "embed|fieldset|figcaption|figure|font|footer|form|frame|frameset|h[1-6]|head|header|hr|html|"
    "i|iframe|img|input|ins|kbd|label|legend|li|link|main|map|mark|meta|nav|noscript|object|ol|"
    "optgroup|option|p|param|picture|pre|q|s|samp|section|select|small|source|span|strike|strong|"
    "sub|summary|sup|svg|table|tbody|td|template|textarea|tfoot|th|thead|time|title|tr|tt|u|ul|"
    "var|video|wbr"
)
_TAG = re.compile(rf"</?(?:{_NAMES})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_UNSEEN = re.compile(r"<!--.*?-->|<(script|style)\b[^<>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
# Inline tags stand within words: <b>N</b>ew is one.
_INLINE = re.compile(
    r"</?(?:a|abbr|b|big|em|font|i|mark|s|small|span|strong|sub|sup|u|wbr)\b", re.I
)
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
_QUOTES = (('"', '"'), ("\u201c", "\u201d"), ("\u201e", "\u201c"), ("\u00ab", "\u00bb"))
_DEEPEST = 3
_WHOLE = r"[-+]?(?:0|[1-9]\d*)"
_GROUPED = r"[-+]?[1-9]\d{0,2}"
# Numbers with a decimal comma (1.234,5) and with commas between the thousands (1,234.5).
_WITH_COMMA = re.compile(rf"(?:{_WHOLE}|{_GROUPED}(?:\.\d{{3}})+)(?:,\d+)?")
_WITH_THOUSANDS = re.compile(rf"(?:{_WHOLE}|{_GROUPED}(?:,\d{{3}})+)(?:\.\d+)?")


def clean_text(text: str) -> str:
    r"""Return a text as a person reads it, in one line.

    Tags and entities of HTML are resolved, also where they are escaped twice; Unicode is composed
    (NFC); line breaks, tabs and other blanks become single blanks; invisible characters and
    quotation marks around the whole are left out.

    Examples
    --------
    >>> clean_text("<p>Zoe\u0308 &amp;amp; Co.<br/>\tSoft<b>ware</b></p>")
    'Zoë & Co. Software'
    >>> clean_text('"I <3 rakes, 5 < 6"')
    'I <3 rakes, 5 < 6'
    """
    if text.isascii() and text.isalnum():
        return text
    for _ in range(_DEEPEST):
        plain = html.unescape(_TAG.sub(_blank, _UNSEEN.sub(" ", text)))
        if plain == text:
            break
        text = plain
    text = unicodedata.normalize("NFC", _INVISIBLE.sub("", printable(text)))
    text = " ".join(text.split())
    for opening, closing in _QUOTES:
        inner = text[1:-1]
        if len(text) > 1 and text[0] == opening and text[-1] == closing:
            return text if opening in inner or closing in inner else inner.strip()
    return text


def _blank(tag: re.Match[str]) -> str:
    return "" if _INLINE.match(tag.group()) else " "


def split_parts(cell: str, separator: str | None) -> tuple[str, ...]:
    """Return the parts of a category path or list, cleaned, each once.

    Parameters
    ----------
    cell : str
        ``Garden > Tools``; or a list in the notation of JSON or Python, also within another one.
    separator : str or None
        Between the parts; None: the cell is one part, unless it is a list.
    """
    values: Iterable[str] = [cell]
    if cell.startswith("["):
        values = _listed(cell)
    if separator:
        # An entity has a semicolon: resolve it before the cell is split.
        values = [part for value in values for part in html.unescape(value).split(separator)]
    return tuple(dict.fromkeys(part for value in values if (part := clean_text(value))))


def _listed(cell: str) -> list[str]:
    for read in (json.loads, ast.literal_eval):
        try:
            return list(_flat(read(cell)))
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return [cell]


def _flat(value: object) -> Iterable[str]:
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _flat(part)
    else:
        yield str(value)


def clean_id(token: str) -> str:
    """Return an id that RecBole reads back: composed (NFC), and not the name of a missing value.

    Examples
    --------
    >>> clean_id("NA"), clean_id("SKU 1 ")
    ('id:NA', 'SKU 1 ')
    """
    token = token if token.isascii() else unicodedata.normalize("NFC", token)
    return f"{_PREFIX}{token}" if token in _NO_IDS else token


def id_problem(token: str) -> str | None:
    """Say why an id cannot stand in an atomic file; or None."""
    if printable(token) != token or "\n" in token or "\t" in token:
        return f"the id {token!a} has a line break, a tab or a control character"
    return None


def each_once(cells: pd.Series, change: Callable[[str], object]) -> pd.Series:
    """Change the cells of a column, each different text once."""
    codes, texts = pd.factorize(cells)
    changed = np.empty(len(texts), dtype=object)
    changed[:] = [change(text) for text in texts]
    return pd.Series(changed[codes], index=cells.index, dtype=object)


def with_points(cells: pd.Series) -> pd.Series:
    """Write numbers such as ``1.234,50`` or ``1,234.50`` as ``1234.50``; other columns stay.

    A column in which a comma may be either (``1,234``) stays as it is, too.
    """
    filled = [cell for cell in cells.unique() if cell]
    commas = [cell for cell in filled if "," in cell]
    if not commas:
        return cells
    is_decimal = all(map(_WITH_COMMA.fullmatch, filled))
    if is_decimal == all(map(_WITH_THOUSANDS.fullmatch, filled)):
        return cells
    if is_decimal:
        return each_once(cells, lambda cell: cell.replace(".", "").replace(",", "."))
    return each_once(cells, lambda cell: cell.replace(",", ""))


def sequence_separator(parts: Iterable[str]) -> str:
    """Return a character that no part has: RecBole's ``seq_separator``.

    Parts may have blanks, so a blank would not do.
    """
    used = set().union(*map(set, parts)) if parts else set()
    return next(mark for mark in "|;/~^\u00a6\u241f" if mark not in used)
