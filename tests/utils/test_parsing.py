"""Values from the command line: plain ones, and nothing given is ever executed."""

from __future__ import annotations

import random
import string
from pathlib import Path

import pytest

from recbole_llmkt.config import Config
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.parsing import load_yaml, parse_value


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
    "[" * 1000,
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
    config = Config("BPR", "ml-100k")
    assert config["my_key"] == ATTACKS[0] and not Path("owned").exists()


def test_parse_value_of_random_text_is_a_plain_value():
    rng = random.Random(0)
    letters = string.printable + "\u00e9\u4e2d\U0001f600\x00\ud800"
    for _ in range(3000):
        text = "".join(rng.choices(letters, k=rng.randrange(15)))
        value = parse_value(text)
        assert isinstance(value, (str, int, float, complex, bytes, list, tuple, dict, set)) or (
            value in (None, Ellipsis)
        ), (text, value)


# ---- YAML files ----------------------------------------------------------------------------------


def yaml_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "f.yaml"
    path.write_text(text, encoding="utf-8")
    return path


LAUGHS = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"] + [
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]"
    for before, name in zip("abcdefgh", "bcdefghi")
]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "the key 'a' appears twice, line 3"),
        ("a: {b: 1, b: 2}", "the key 'b' appears twice, line 1"),
        ("a: !!int x", "a value cannot be read (ValueError"),
        ("a: !!float x", "a value cannot be read (ValueError"),
        ("a: !!bool x", "a value cannot be read (KeyError"),
        ("a: !!timestamp x", "a value cannot be read (AttributeError"),
        ("a: !!binary x", "failed to decode base64"),
        ("a: !!omap [1]", "expected a mapping of length 1"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("a: 2020-99-99", "a value cannot be read (ValueError"),
        ("a: " + "1" * 5000, "a value cannot be read (ValueError"),
        ("a: " + "[" * 3000, "nested too deeply"),
        ("a: " + "[" * 100 + "]" * 100, "nested too deeply"),
        ("a: &x [*x]", "nested too deeply"),
        ("\n".join(LAUGHS), "more than 100,000 values"),
        ("a: \x00", "a value cannot be read"),
        ("a: *x", "found undefined alias"),
        ("? [a, b]\n: 1", "found unhashable key"),
        ("a: 1\n---\nb: 1", "found another document"),
        ("1: 2", "the key 1 must be a string"),
        ("a: 2020-01-01", "put a date in quotes"),
        ("a: !!set {x}", "must be made of text"),
    ],
)
def test_odd_yaml_is_an_error_of_one_line(tmp_path, text, words):
    with pytest.raises(ConfigError) as caught:
        load_yaml(yaml_file(tmp_path, text))
    message = str(caught.value)
    assert "f.yaml" in message and words in message and "\n" not in message and len(message) < 400


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    assert load_yaml(yaml_file(tmp_path, "\ufeffkt_weight: 0.3\n")) == {"kt_weight": 0.3}


def test_merged_mappings_may_be_overridden(tmp_path):
    text = "x: &x {a: 1, b: 2}\ny: {<<: *x, a: 3}\n"
    assert load_yaml(yaml_file(tmp_path, text))["y"] == {"a": 3, "b": 2}


@pytest.mark.parametrize("text", ["[!!bool x]", "{a: !!int x}", "[!!timestamp x]", "{a: 1, a: 2}"])
def test_odd_collections_on_the_command_line_are_text(text):
    assert parse_value(text) == text


def test_a_file_that_is_read_twice_is_given_out_twice(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("epochs: [1, 2]")
    load_yaml(path)["epochs"].append(3)
    assert load_yaml(path) == {"epochs": [1, 2]}
    path.write_text("epochs: [4]")
    assert load_yaml(path) == {"epochs": [4]}
