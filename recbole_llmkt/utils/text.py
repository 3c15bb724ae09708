"""Untrusted text: cleaned before it is stored, made harmless before it is shown."""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections.abc import Iterable
from urllib.parse import urlsplit

import yaml

# Escape sequences (ECMA-48): CSI with its parameters; OSC, DCS, SOS, PM and APC with their
# strings; two-character escapes. Each starts with ESC or with its 8-bit form.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85]")
# What a terminal acts on instead of showing it: control characters, but for tab and line feed,
# and the characters that change the direction of everything behind them.
_ACTIVE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_SURROGATES = re.compile("[\ud800-\udfff]")
# Names of an address's parameters whose values are secrets.
_SECRET = re.compile("key|token|secret|passw|pwd|sig|auth|credential", re.IGNORECASE)
# How a cell starts that a spreadsheet computes.
_FORMULA = ("=", "+", "-", "@")
_LATEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "{}$&#_%"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': "''",  # the sign itself is a command with babel
        "[": "{[}",  # an option, at the start of a row
        "±": r"$\pm$",
        "↓": r"$\downarrow$",
    }
)
_BEYOND_ASCII = re.compile("[^\x00-\x7f\u2013\u2014\u2018\u2019\u201c\u201d\u2026±↓ÆæØøßŁłŒœı]")
_OGONEK = "0328"  # which the font lacks
_MARKUP = re.compile(r"([\\`\[\]|])")


def printable(text: str) -> str:
    r"""Return a text without whatever a terminal acts on; line feeds and tabs stay.

    Escape sequences, control characters and changes of direction are left out, other line ends
    become line feeds, and lone surrogates question marks. It is used both before a text is stored
    and wherever a text of others is shown.

    Examples
    --------
    >>> printable("\x1b[31mred\x1b[0m\r\nnext\x07")
    'red\nnext'
    """
    if text.isascii() and text.isprintable():
        return text
    text = _LINE_ENDS.sub("\n", _ESCAPES.sub("", text))
    return _SURROGATES.sub("?", _ACTIVE.sub("", text))


def one_line(text: str) -> str:
    r"""Return :func:`printable` text with blanks for line feeds and tabs: an id, a title, a reason.

    Examples
    --------
    >>> one_line("Heat\n 2. Fake line")
    'Heat  2. Fake line'
    """
    return re.sub("[\n\t\u2028\u2029]", " ", printable(text))


def finalize(value: object) -> object:
    """Return what a page shows of a value: for Jinja2's ``finalize``, before it escapes HTML."""
    return printable(value) if type(value) is str else value


def json_line(value: object, indent: int | None = None) -> str:
    r"""Return JSON that is safe to show and to encode, and loses nothing.

    What :func:`printable` leaves out is escaped. ``indent`` makes lines of it.

    Examples
    --------
    >>> json_line("Ü\x9b1m")
    '"Ü\\u009b1m"'
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    for unsafe in (_ACTIVE, _SURROGATES):
        text = unsafe.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
    return text


def markdown(text: str) -> str:
    r"""Return a text that Markdown shows in one line, without HTML, links, pictures or cells.

    Examples
    --------
    >>> markdown("<b>a|b</b>")
    '&lt;b&gt;a\\|b&lt;/b&gt;'
    """
    escaped = _MARKUP.sub(r"\\\1", one_line(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def latex(text: str) -> str:
    r"""Return a text that LaTeX prints as it stands, in one line.

    A letter that needs another font than LaTeX's own is named by its number: it would stop the
    document.

    Examples
    --------
    >>> print(latex("50% of_all ± 1, é, 映"))
    50\% of\_all $\pm$ 1, é, U+6620
    """
    known = _BEYOND_ASCII.sub(_in_latin, one_line(text))
    return re.sub("-(?=-)", r"-\\/", known.translate(_LATEX))  # two hyphens would be a dash


def _in_latin(letter: re.Match[str]) -> str:
    """Return a letter with an accent of the font as it is, and the number of any other."""
    parts = unicodedata.decomposition(letter[0]).split()
    is_known = letter[0] < "\u0180" and len(parts) == 2 and parts[1] != _OGONEK
    return letter[0] if is_known and parts[0][0] != "<" else f"U+{ord(letter[0]):04X}"


def split_credentials(address: str) -> tuple[str, str]:
    """Split an address into one without user and password, and ``user:password`` (or ``""``).

    Examples
    --------
    >>> split_credentials("https://me:secret@host:8000/v1")
    ('https://host:8000/v1', 'me:secret')
    """
    scheme, mark, rest = address.rpartition("://") if "://" in address else ("", "", address)
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    port = authority.rpartition(":")[2]
    # A password with one of / ? # in it, which an address cannot have: hidden all the same.
    is_broken = "@" not in authority and ":" in authority and not port.isdigit()
    credentials, at, host = (rest if is_broken else authority).rpartition("@")
    if not at:
        return address, ""
    return f"{scheme}{mark}{host}{'' if is_broken else rest[len(authority) :]}", credentials


def without_credentials(address: str) -> str:
    """Return an address as it may be stored and shown: without user, password and keys.

    Examples
    --------
    >>> without_credentials("https://me:secret@host/v1?api-version=2&api-key=secret")
    'https://host/v1?api-version=2'
    """
    shown, mark, query = split_credentials(address)[0].partition("?")
    kept = [part for part in query.split("&") if not _SECRET.search(part.partition("=")[0])]
    return f"{shown}{mark}{'&'.join(kept)}" if any(kept) else shown


def cell(text: str) -> str:
    """Return a text for a table that a spreadsheet may open: in one line, and no formula.

    Examples
    --------
    >>> cell("=1+1")
    "'=1+1"
    """
    line = one_line(text)
    return f"'{line}" if line.startswith(_FORMULA) else line


def shown_argument(argument: str) -> str:
    """Return an argument of the program for the log, without a password of an address in it."""
    is_address = "://" in argument or argument.startswith("--profile_api_base=")
    return without_credentials(argument) if is_address else argument


def shown_command(words: Iterable[str]) -> str:
    """Return a command for the terminal, as a shell reads it, without passwords of addresses."""
    return shlex.join(map(shown_argument, words))


def address_problem(address: str) -> str | None:
    """Say what is wrong with the address of a server, without its user and password; or None."""
    shown = without_credentials(address)
    if not re.match(r"https?://", address, re.IGNORECASE):
        bare = shown.rpartition("://")[2].lstrip("/")
        return f"'{shown}' does not start with http:// or https://: write http://{bare}"
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"'{shown}' is no address ({without_credentials(str(error))})"
    if _SURROGATES.search(address):
        return f"'{shown}' holds characters that are no text"
    if not host or any(sign.isspace() for sign in address):
        return f"'{shown}' names no server: write http://HOST:PORT/v1"
    if "#" in address:
        return f"'{shown}' has a '#': end it with the path, such as /v1"
    return None


def flow_yaml(value: object) -> str:
    """Return a value as YAML on one line.

    Examples
    --------
    >>> flow_yaml({"order": "TO", "split": {"RS": [0.8, 0.1, 0.1]}})
    '{order: TO, split: {RS: [0.8, 0.1, 0.1]}}'
    """
    text: str = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True, width=10**6)
    return text.removesuffix("...\n").strip()
