"""What a case is made of: odd values, and files that somebody or something has damaged."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from recbole_llmkt.utils.exceptions import BadRowsError, LLMKTError
from recbole_llmkt.utils.text import one_line

# Values that JSON, YAML and people produce where something else is expected.
ODD = st.sampled_from(
    [
        *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**70, 10**400, -(10**400), 0.5, 1e308),
        *(float("inf"), float("-inf"), float("nan"), "", " ", "x", "0", "1e400", "nan", "NaN", "~"),
        *(
            "\x00",
            "\x1b[31m",
            "\ud800",
            "\u00a0",
            "\u202e",
            "a" * 5000,
            "[1, 2",
            "{{ x }}",
            "../..",
            "é",
        ),
        *([], {}, [[]], [None], ["x"], [1, "x"], {"x": None}, {"": 1}, [{}], [float("nan")]),
        *("!!int x", "1:2:3", "2020-01-01", "<b>", "a.b.C", "=1+1", "True", "[]", "{}", "None"),
    ]
).map(copy.deepcopy)
TEXT = st.text(max_size=30)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
# How text is spoiled on its way: each is inserted, or put in the place of a piece.
_INSERTED = [
    *(b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\n", b"\n\n", b"\t", b"\t\t", b" ", b",", b'"'),
    *(
        b"'",
        b"[",
        b"]",
        b"{",
        b"}",
        b"[" * 3000,
        b"{" * 300,
        b":",
        b": ",
        b"- ",
        b"&a ",
        b"*a",
        b"!!",
    ),
    *(b"!!python/name:os.system ", b"!!int x", b"!!float x", b"!!timestamp x", b"%", b"#", b"<<: "),
    *(
        b"NaN",
        b"Infinity",
        b"1e400",
        b"9" * 400,
        b"null",
        b"true",
        b"-",
        b"\\ud800",
        b"\xc3",
        b"0x",
    ),
    *(b":token", b":float", b":token_seq", b"?", b"|", b">", b"@", b"`", b"~", b"\xc2\x85", b"1_0"),
]


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return a file's content with up to four pieces cut out, repeated, replaced or added."""
    content = whole
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from([0, 0, 1, 2, 8, 40, 10**6])))
        piece = draw(st.sampled_from(_INSERTED) | st.binary(max_size=4) | st.just(b""))
        how = draw(st.sampled_from(["replace", "repeat", "swap", "insert"]))
        if how == "repeat":
            piece = content[start:end] * 2
        elif how == "swap":
            piece = content[start:end][::-1]
        elif how == "insert":
            end = start
        content = content[:start] + piece + content[end:]
    return content


@st.composite
def changed(draw: st.DrawFn, whole: Any) -> Any:
    """Return plain values with one or two of them missing, added, or odd."""
    values = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 2))):
        values = _change(draw, values)
    return values


def _change(draw: st.DrawFn, values: Any) -> Any:
    inner = isinstance(values, (dict, list)) and len(values) > 0
    if not inner or draw(st.integers(0, 9)) == 0:
        return draw(JSON_VALUES)
    keys = list(values) if isinstance(values, dict) else list(range(len(values)))
    key = draw(st.sampled_from(keys))
    how = draw(st.sampled_from(["go on", "go on", "odd", "remove", "add"]))
    if how == "remove":
        del values[key]
    elif how == "add" and isinstance(values, dict):
        values[draw(TEXT)] = draw(JSON_VALUES)
    elif how == "add":
        values.append(draw(JSON_VALUES))
    else:
        values[key] = draw(ODD) if how == "odd" else _change(draw, values[key])
    return values


def as_json(values: Any) -> bytes:
    """Return values as JSON; lone surrogates as escapes."""
    return json.dumps(values).encode()


def survives(action: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Return what a call returns, or its error: one of this package's own, with one line.

    An import lists the first rows that it cannot use.

    Any other exception is a foreign one, and fails the test.
    """
    try:
        return action(*arguments, **keywords)
    except LLMKTError as error:
        is_line = one_line(str(error)) == str(error) or isinstance(error, BadRowsError)
        assert str(error).strip() and is_line, repr(error)
        return error


def no_leftovers(folder: Path) -> None:
    """Check that nothing is half-written."""
    assert not list(folder.rglob("*.partial"))
