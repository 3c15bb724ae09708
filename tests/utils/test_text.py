from __future__ import annotations

import json

import pytest

from recbole_llmkt.utils.text import (
    address_problem,
    json_line,
    latex,
    markdown,
    one_line,
    printable,
    shown_command,
    without_credentials,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Plain text.", "Plain text."),
        ("tab\tand\nline", "tab\tand\nline"),
        ("a\r\nb\rc\x85d", "a\nb\nc\nd"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]0;title\x07shown", "shown"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9d0;title\x9cshown", "shown"),
        ("\x1bPq#0\x1b\\shown", "shown"),
        ("\x1bcreset", "reset"),
        ("\x1b(0line", "line"),
        ("unfinished \x1b[", "unfinished "),
        ("bell\x07 nul\x00 del\x7f", "bell nul del"),
        ("\u202egnp.exe", "gnp.exe"),
        ("half \ud83d", "half ?"),
        ("ünïcode 映画 🎬 👩\u200d💻 نص", "ünïcode 映画 🎬 👩\u200d💻 نص"),
        ("id\u00a0", "id\u00a0"),
    ],
)
def test_nothing_that_a_terminal_acts_on_is_left(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown
    printable(text).encode()


def test_an_id_or_a_title_is_one_line() -> None:
    assert one_line("a\n1. b\tc\x1b[2J\u2028d") == "a 1. b c d"


@pytest.mark.parametrize("text", ["\x1b[31m", "\x9b31m", "\ud83d", "\x7f", "Ü", "\u202e", '"\\'])
def test_json_loses_nothing_and_is_safe_to_show(text: str) -> None:
    line = json_line({text: text})
    assert json.loads(line) == {text: text}
    assert printable(line) == line


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("a_b & 50% of {x} #1 $2", r"a\_b \& 50\% of \{x\} \#1 \$2"),
        (
            "\\input{x} ~ ^^M",
            r"\textbackslash{}input\{x\} \textasciitilde{} " + r"\textasciicircum{}" * 2 + "M",
        ),
        ("a<b>c|d", r"a\textless{}b\textgreater{}c\textbar{}d"),
        ('[x] "y"', "{[}x] ''y''"),
        ("low---lr", r"low-\/-\/-lr"),
        ("0.1 ± 0.2 ↓", r"0.1 $\pm$ 0.2 $\downarrow$"),
        ("Café Łódź \u2018x\u2019 \u2013 y\u2026", "Café Łódź \u2018x\u2019 \u2013 y\u2026"),
        ("ą ĳ þ \u03b1 映 ấ \u00a0", "U+0105 U+0133 U+00FE U+03B1 U+6620 U+1EA5 U+00A0"),
        ("two\nlines % end", r"two lines \% end"),
    ],
)
def test_latex_prints_text_as_it_stands(text: str, source: str) -> None:
    assert latex(text) == source


def test_markdown_shows_text_as_it_is() -> None:
    assert markdown("<script>x</script>\n|a|") == "&lt;script&gt;x&lt;/script&gt; \\|a\\|"
    assert markdown("a & b_c ![x](y)") == "a &amp; b_c !\\[x\\](y)"
    assert markdown("**a** kt_weight") == "**a** kt_weight"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://host:8000/v1", "http://host:8000/v1"),
        ("https://me:secret@host/v1", "https://host/v1"),
        ("https://me:se@cret@host/v1", "https://host/v1"),
        ("https://token-secret@host/v1", "https://host/v1"),
        ("me:secret@host:80/v1", "host:80/v1"),
        ("http://me:se/cret@host/v1", "http://host/v1"),
        ("http://me:se#cret@host/v1", "http://host/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("http://host/v1/@model", "http://host/v1/@model"),
        ("http://host/v1?api-version=2", "http://host/v1?api-version=2"),
        ("http://host/v1?api_key=secret&a=1&access_token=cret", "http://host/v1?a=1"),
        ("http://host/v1?api_key=secret", "http://host/v1"),
    ],
)
def test_credentials_of_an_address_are_left_out(address: str, shown: str) -> None:
    assert without_credentials(address) == shown


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("localhost:8000/v1", "write http://localhost:8000/v1"),
        ("//host/v1", "write http://host/v1"),
        ("ftp://me:secret@host", "http:// or https://"),
        ("me:secret@host/v1", "write http://host/v1"),
        ("http://", "names no server"),
        ("http:///v1", "names no server"),
        ("http://ho st/v1", "names no server"),
        ("http://host:99999/v1", "Port out of range"),
        ("http://me:se/cret@host/v1", "no address"),
        ("http://host/v1#a", "'#'"),
    ],
)
def test_an_address_that_cannot_work_is_said_without_its_password(
    address: str, problem: str
) -> None:
    problem_told = address_problem(address)
    assert (
        problem_told is not None
        and problem in problem_told
        and "secret" not in problem_told
        and "cret" not in problem_told
    )


@pytest.mark.parametrize("address", ["http://h/v1", "HTTPS://me:pw@h:1/v1/", "http://[::1]:8/v1"])
def test_addresses_that_work_are_taken(address: str) -> None:
    assert address_problem(address) is None


def test_a_command_is_shown_without_passwords() -> None:
    words = ["llmkt", "--title=two words", "--profile_api_base=http://me:pw@host/v1?api_key=pw"]
    assert shown_command(words) == "llmkt '--title=two words' --profile_api_base=http://host/v1"
