from __future__ import annotations

import pytest
import torch

from recbole_llmkt.utils.devices import chosen_device
from recbole_llmkt.utils.exceptions import ConfigError


@pytest.mark.parametrize(
    ("cuda", "mps", "device"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_first_that_is_there(monkeypatch, cuda, mps, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert chosen_device("auto") == torch.device(device)


def test_a_named_device_is_that_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert chosen_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "cpu:x", ""])
def test_an_unusable_device_is_one_line_with_the_fix(name):
    with pytest.raises(ConfigError) as refusal:
        chosen_device(name)
    message = str(refusal.value)
    assert message.startswith(f"profile_device: {name} cannot be used here: ")
    assert message.endswith("Choose auto or cpu.")
    assert "\n" not in message
