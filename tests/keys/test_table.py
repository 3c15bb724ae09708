"""The table of keys, and everything that repeats a part of it."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path
from typing import get_args

import pytest

from recbole_llmkt.keys import table as keys
from recbole_llmkt.keys.key import shown
from recbole_llmkt.keys.table import KEYS, check_keys
from recbole_llmkt.profiles.generation import generators
from recbole_llmkt.transfer.auxiliary.regularizers import REGULARIZERS
from recbole_llmkt.transfer.inspection.row_inference import FINDERS
from recbole_llmkt.transfer.losses import LOSSES
from recbole_llmkt.transfer.targets.build import TRANSFORMS
from recbole_llmkt.utils import resources, types
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.parsing import load_yaml

OVERALL = resources.properties_dir() / "overall.yaml"
ROOT = Path(__file__).parents[2]
NUMBERS = [name for name, key in KEYS.items() if key.type in ("int", "float", "float or int")]
CHOICES = [name for name, key in KEYS.items() if key.choices]


def plain(value):
    return list(value) if isinstance(value, tuple) else value


def test_overall_yaml_has_the_tables_keys_and_defaults_in_its_order():
    content = load_yaml(OVERALL)
    assert list(content) == list(KEYS)
    assert content == {name: plain(key.default) for name, key in KEYS.items()}


def test_overall_yaml_has_the_tables_types_and_meanings():
    lines = [line for line in OVERALL.read_text().splitlines() if re.match(r"(kt|profile)_", line)]
    comments = {line.partition(":")[0]: line.partition("# ")[2] for line in lines}
    assert comments == {name: f"({key.type_words}) {key.meaning}" for name, key in KEYS.items()}


TYPES = {
    types.BoolKey: ("bool", False, "", ()),
    types.OptionalBoolKey: ("bool", True, "", ()),
    types.LeakKey: ("bool", False, "", ("tune",)),
    types.IntKey: ("int", False, "", ()),
    types.OptionalIntKey: ("int", True, "", ()),
    types.FloatKey: ("float", False, "", ()),
    types.OptionalFloatKey: ("float", True, "", ()),
    types.FloatOrListKey: ("float", False, "some", ()),
    types.StrKey: ("str", False, "", ()),
    types.OptionalStrKey: ("str", True, "", ()),
    types.StrOrListKey: ("str", False, "some", ()),
    types.ListKey: ("str", False, "list", ()),
}


def test_a_configuration_is_typed_as_the_table_says():
    typed = {name: of_key for names, of_key in TYPES.items() for name in get_args(names)}
    assert typed == {
        name: (key.type.partition(" ")[0], key.optional, key.many, key.words)
        for name, key in KEYS.items()
    }


def test_every_default_is_allowed():
    refused = {name: key.refusal(plain(key.default)) for name, key in KEYS.items()}
    assert not {name: words for name, words in refused.items() if words}


def test_the_page_of_keys_is_current():
    spec = importlib.util.spec_from_file_location("keys_page", ROOT / "tools" / "keys_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page()
    assert all(f"| `{name}` |" in module.page() for name in KEYS)


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (keys.LOSSES, LOSSES),
        (keys.TRANSFORMS, TRANSFORMS),
        (keys.REGULARIZERS, {"none", *REGULARIZERS}),
        (keys.ROWS, {"auto", *FINDERS}),
        (keys.GENERATORS, {*generators._CLASSES, "file"}),
    ],
)
def test_the_choices_are_the_names_of_what_there_is(names, classes):
    assert set(names) == set(classes)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "value", [math.inf, -math.inf, math.nan, 2**70, -(2**70), True, "1", [[1]]]
)
def test_no_number_is_infinite_or_huge(name, value):
    with pytest.raises(ConfigError, match=f"'{name}: .*the value must be") as caught:
        check_keys({name: value}, "a test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("value", ["nothing of the kind", 3, None, {}, {"a": 1}])
def test_only_the_choices_are_allowed(name, value):
    with pytest.raises(ConfigError, match=f"'{name}: .*the value must be"):
        check_keys({name: value}, "a test")


def test_a_value_is_shown_in_one_short_line():
    assert shown("a\nb\tc") == "a b c"
    assert len(shown("x" * 1000)) == 80
    assert shown(int("1" + "0" * 4000) ** 2) == "a huge int"
    with pytest.raises(ConfigError, match="'kt_seed: a huge int' in a test"):
        check_keys({"kt_seed": 16**6000}, "a test")


def test_keys_of_every_arm_are_no_knowledge():
    assert not keys.is_knowledge_key("kt_valid_users")
    assert not keys.is_knowledge_key("kt_strict_keys")
    assert not keys.is_knowledge_key("learning_rate")
    assert keys.is_knowledge_key("kt_loss")
