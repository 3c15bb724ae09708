"""The sentences of a profile."""

from __future__ import annotations

import re

# A dot behind these ends no sentence, even before a capital.
_ABBREVIATIONS = {"mr", "mrs", "ms", "dr", "prof", "st", "lt", "capt", "sgt", "vs", "e.g", "i.e"}
_QUOTES = "\"'”’)\\]"  # noqa: RUF001 - as they are printed
_WIDE = "。！？"  # noqa: RUF001 - Chinese and Japanese put no blank behind them
# The end of a sentence: its mark, closing quotes or brackets, and a blank; or a full-width mark.
_END = re.compile(rf"[.!?…]+[{_QUOTES}]*(?=\s)|[{_WIDE}]+[」』{_QUOTES}]*")
_LIST_MARK = re.compile(r"^\s*(?:[-*•–#]+|\d{1,2}[.)])\s+")  # noqa: RUF001 - lists use a dash
_LAST_WORD = re.compile(r"(\S+?)\.$")
_OPENING = "\"'“‘([«"  # noqa: RUF001 - as they are printed


def sentences(text: str) -> list[str]:
    """Split a profile into its sentences.

    Lines and the points of a list stand alone. A dot behind a title or initials, or before a
    small letter, ends no sentence.

    Parameters
    ----------
    text : str
        One or more paragraphs.

    Returns
    -------
    list of str
        Without surrounding blanks; each one has a letter or a digit in it.

    Examples
    --------
    >>> sentences("Likes J. R. R. Tolkien and Dr. Strange. Dislikes musicals!")
    ['Likes J. R. R. Tolkien and Dr. Strange.', 'Dislikes musicals!']
    """
    parts = []
    for line in text.splitlines():
        rest = _LIST_MARK.sub("", line).strip()
        start = 0
        for match in _END.finditer(rest):
            if _ends(rest[start : match.end()], rest[match.end() :].lstrip()):
                parts.append(rest[start : match.end()].strip())
                start = match.end()
        parts.append(rest[start:].strip())
    return [part for part in parts if any(character.isalnum() for character in part)]


def _ends(sentence: str, following: str) -> bool:
    """Tell whether a mark at the end of ``sentence`` ends it, given what comes behind."""
    if following.lstrip(_OPENING)[:1].islower():
        return False
    word = _LAST_WORD.search(sentence)
    if word is None:
        return True
    bare = word.group(1).lstrip(_OPENING)
    initials = bare.replace(".", "")
    is_initials = len(initials) == 1 + bare.count(".") and initials.isupper()
    return not is_initials and bare.lower() not in _ABBREVIATIONS
