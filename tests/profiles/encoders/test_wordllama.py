"""The encoder in a wheel: what happens where the wheel, or a part of it, is missing."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest

from recbole_llmkt.profiles.encoders import wordllama
from recbole_llmkt.profiles.encoders.wordllama import WordLlamaEncoder
from recbole_llmkt.utils.exceptions import ProfileError


@pytest.fixture(autouse=True)
def not_loaded():
    wordllama._load.cache_clear()


def test_without_the_package_the_fix_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ProfileError, match="`pip install wordllama`"):
        WordLlamaEncoder()


def test_a_wheel_without_its_tokenizer_is_refused(monkeypatch, tmp_path):
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "l2_supercat_256.safetensors").write_bytes(b"")
    with pytest.raises(ProfileError, match=r"has no tokenizers/l2_supercat_tokenizer_config\.json"):
        WordLlamaEncoder()


def test_texts_stay_whole_whatever_their_length():
    encoder = object.__new__(WordLlamaEncoder)
    long_text = "word " * 100_000
    assert encoder.split(["", long_text]) == [[("", 0)], [(long_text, 500_000)]]
