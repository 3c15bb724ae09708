"""Values from the command line: plain ones, and nothing given is ever executed."""

from __future__ import annotations

import random
import string
from pathlib import Path

import pytest

from recbole_llmkt.config import Config
from recbole_llmkt.utils.parsing import parse_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.3", 0.3),
        ("1e-3", 1e-3),
        ("1", 1),
        ("1.0", 1.0),
        ("True", True),
        ("false", False),
        ("None", None),
        ("~", None),
        ("[1, 2]", [1, 2]),
        ("[BPR, NeuMF]", ["BPR", "NeuMF"]),
        ("{'RS': [0.8, 0.1, 0.1]}", {"RS": [0.8, 0.1, 0.1]}),
        ("(1, 2)", (1, 2)),
        ("'0.3'", "0.3"),
        ("none", "none"),
        ("", ""),
        ("forward()[0]", "forward()[0]"),
        ("mlp_layers.mlp_layers.4@input", "mlp_layers.mlp_layers.4@input"),
        ("sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("cuda:1", "cuda:1"),
        ("[0,inf)", "[0,inf)"),
        ("recent", "recent"),
        ("2024-01-05", "2024-01-05"),
        ("12:30:45", "12:30:45"),
        ("007", "007"),
        ("on", "on"),
        ("#1", "#1"),
        ("a: b", "a: b"),
    ],
)
def test_parse_value(text, value):
    parsed = parse_value(text)
    assert parsed == value and type(parsed) is type(value)


ATTACKS = [
    "__import__('os').system('touch owned')",
    "open('owned', 'w')",
    "exec(\"open('owned','w')\")",
    "!!python/object/apply:os.system ['touch owned']",
    "!!python/object/new:os.system ['touch owned']",
    "[__import__('os').system('touch owned')]",
    "lambda: 0",
    "().__class__.__bases__[0].__subclasses__()",
    "9**9**9",
    "[" * 5000,
    "(" * 200 + ")" * 200,
    "&a [*a, *a]",
]


@pytest.mark.parametrize("text", ATTACKS)
def test_nothing_is_ever_executed(text):
    parse_value(text)
    Config("BPR", "ml-100k", command_line=[f"--my_key={text}"])
    Config("BPR", "ml-100k", config_dict={"my_key": text}, command_line=[])
    assert not Path("owned").exists()


def test_nothing_is_executed_on_the_programs_command_line(monkeypatch):
    monkeypatch.setattr("sys.argv", ["run.py", f"--my_key={ATTACKS[0]}", f"--other={ATTACKS[1]}"])
    one = Config("BPR", "ml-100k")
    assert one["my_key"] == ATTACKS[0] and not Path("owned").exists()


def test_parse_value_of_random_text_is_a_plain_value():
    rng = random.Random(0)
    letters = string.printable + "\u00e9\u4e2d\U0001f600\x00\ud800"
    for _ in range(3000):
        text = "".join(rng.choices(letters, k=rng.randrange(15)))
        value = parse_value(text)
        assert isinstance(value, (str, int, float, complex, bytes, list, tuple, dict, set)) or (
            value in (None, Ellipsis)
        ), (text, value)
