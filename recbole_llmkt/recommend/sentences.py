"""The sentences of a profile."""

from __future__ import annotations

import re

# A dot after these does not end a sentence, even before a capital.
_ABBREVIATIONS = {"mr", "mrs", "ms", "dr", "prof", "st", "lt", "capt", "sgt", "vs", "e.g", "i.e"}
_QUOTES = "\"'”’)\\]"  # noqa: RUF001 - as they are printed
_WIDE = "。！？"  # noqa: RUF001 - no space follows them in Chinese and Japanese
# A sentence ends with a mark, closing quotes or brackets, and a space; or with a full-width mark.
_END = re.compile(rf"[.!?…]+[{_QUOTES}]*(?=\s)|[{_WIDE}]+[」』{_QUOTES}]*")
_LIST_MARK = re.compile(r"^\s*(?:[-*•–#]+|\d{1,2}[.)])\s+")  # noqa: RUF001 - lists use a dash
_LAST_WORD = re.compile(r"(\S+?)\.$")
_OPENING = "\"'“‘([«"  # noqa: RUF001 - as they are printed


def sentences(text: str) -> list[str]:
    """Split a profile into its sentences.

    Each line and each list item stands alone. A dot after a title or initials, or before a
    lower-case letter, does not end a sentence.

    Parameters
    ----------
    text : str
        One or more paragraphs.

    Returns
    -------
    list of str
        Stripped; each has a letter or a digit.

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
    """Tell whether the mark at the end of ``sentence`` ends it, given what follows."""
    if following.lstrip(_OPENING)[:1].islower():
        return False
    word = _LAST_WORD.search(sentence)
    if word is None:
        return True
    bare = word.group(1).lstrip(_OPENING)
    initials = bare.replace(".", "")
    is_initials = len(initials) == 1 + bare.count(".") and initials.isupper()
    return not is_initials and bare.lower() not in _ABBREVIATIONS
