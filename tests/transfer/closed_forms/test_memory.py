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
    with pytest.raises(ConfigError) as refused:
        check_memory({"model": "EASE", "device": "cpu"}, 30_000)
    assert str(refused.value) == (
        "EASE needs 6.7 GiB of memory (cpu) for 2 matrices of 30,000 x 30,000 items, and 2.0 GiB "
        "are free: keep fewer items (item_inter_num_interval: '[5,inf)'), or use ItemKNN or "
        "NCEPLRec."
    )
    check_memory({"model": "ItemKNN", "device": "cpu"}, 10**6)


@pytest.mark.parametrize("model", ["EASE", "SLIMElastic", "ADMMSLIM"])
def test_30000_items_fit_into_24_gib(monkeypatch, model):
    monkeypatch.setattr(memory, "free_memory", lambda device: 24 * GIB)
    check_memory({"model": model, "device": "cpu"}, 30_000)


@pytest.mark.parametrize(
    ("model", "device_needs", "host_needs"),
    [("EASE", 2, 2), ("SLIMElastic", 2, 2), ("ADMMSLIM", 6, 2)],
)
def test_a_gpu_and_its_host_must_both_have_room(model, device_needs, host_needs, monkeypatch):
    matrix = 4 * 1000**2
    free = {"cuda": device_needs * matrix, "cpu": host_needs * matrix}  # exactly enough
    monkeypatch.setattr(memory, "free_memory", lambda device: free[device.type])
    check_memory({"model": model, "device": "cuda"}, 1000)
    for place, matrices in (("cuda", device_needs), ("cpu", host_needs)):
        free[place] -= 1
        with pytest.raises(ConfigError, match=rf"\({place}\) for {matrices} matrices"):
            check_memory({"model": model, "device": "cuda"}, 1000)
        free[place] += 1


def test_a_gpu_is_asked_what_is_free_there(monkeypatch):
    device = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", {device: (7, 9)}.get)
    assert free_memory(device) == 7


def test_a_run_is_refused_before_its_model_is_made(tiny, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 100)
    config = tiny.config("EASE", kt_closed_form="drawn")
    with pytest.raises(ConfigError, match="keep fewer items"):
        prepare(config)
    prepare(tiny.config("EASE", kt_enabled=False))


def test_some_memory_is_free():
    assert free_memory(torch.device("cpu")) > 2**20
