"""Matrices that do not fit are refused before RecBole makes them."""

from __future__ import annotations

import pytest
import torch

from recbole_llmkt.transfer.closed_forms import memory
from recbole_llmkt.transfer.closed_forms.memory import check_memory, free_memory
from recbole_llmkt.utils.exceptions import ConfigError
from tests.helpers import prepare

GIB = 2**30


def test_what_is_needed_and_what_is_free_is_said(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 2 * GIB)
    for n_items in (10, 10_000):
        check_memory({"model": "EASE", "device": "cpu"}, n_items)
    with pytest.raises(ConfigError, match=r"EASE needs 16\.8 GiB .* 5 matrices of 30,000 x 30,000"):
        check_memory({"model": "EASE", "device": "cpu"}, 30_000)
    check_memory({"model": "ItemKNN", "device": "cpu"}, 10**6)


def test_ease_of_30000_items_fits_into_24_gib(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 24 * GIB)
    check_memory({"model": "EASE", "device": "cpu"}, 30_000)


def test_a_run_is_refused_before_its_model_is_made(tiny, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 100)
    config = tiny.config("EASE", kt_closed_form="drawn")
    with pytest.raises(ConfigError, match="keep fewer items"):
        prepare(config)
    prepare(tiny.config("EASE", kt_enabled=False))


def test_some_memory_is_free():
    assert free_memory(torch.device("cpu")) > 2**20
