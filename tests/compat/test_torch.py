"""Repairs of PyTorch."""

from __future__ import annotations

import warnings

import pytest
import torch

from recbole_llmkt.compat import (
    anomaly_detection_kept,
    autocasts,
    complete_adagrad,
    torch_quiet,
)


def test_a_parameter_that_joins_adagrad_late_takes_its_first_step():
    early, late = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = torch.optim.Adagrad([early], lr=1.0, initial_accumulator_value=3.0)
    early.grad = torch.ones(1)
    optimizer.step()  # the accumulator is now 3 + 1 squared: 4
    optimizer.add_param_group({"params": [late]})
    optimizer.state.pop(late, None)  # as versions of PyTorch leave it
    complete_adagrad(optimizer)
    early.grad = None
    late.grad = torch.ones(1)
    optimizer.step()
    assert late.item() == pytest.approx(-1 / 2)  # learning rate x gradient / root of 3 + 1
    assert optimizer.state[early]["sum"].item() == 4.0


def test_other_optimizers_are_left_alone():
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    complete_adagrad(optimizer)
    assert not optimizer.state


@pytest.mark.parametrize("before", [False, True])
def test_anomaly_detection_stays_as_it_was(before):
    with torch.autograd.set_detect_anomaly(before, check_nan=False):
        with pytest.raises(ImportError), anomaly_detection_kept():
            torch.autograd.set_detect_anomaly(not before)
            raise ImportError
        assert torch.is_anomaly_enabled() is before
        assert torch.is_anomaly_check_nan_enabled() is False


def test_only_announcements_of_names_that_recbole_uses_are_silenced():
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with torch_quiet():
            warnings.warn(
                "`torch.cuda.amp.GradScaler(args...)` is deprecated", FutureWarning, stacklevel=1
            )
            warnings.warn("torch.sparse.SparseTensor(...) is deprecated", UserWarning, stacklevel=1)
            warnings.warn("the loss is NaN", UserWarning, stacklevel=1)
        warnings.warn(
            "`torch.cuda.amp.GradScaler(args...)` is deprecated", FutureWarning, stacklevel=1
        )
    assert [str(warning.message)[:10] for warning in shown] == ["the loss i", "`torch.cud"]


def test_autocast_is_told_by_device():
    assert not autocasts("cpu")
    with torch.autocast("cpu"):
        assert autocasts("cpu")
        with torch.autocast("cpu", enabled=False):
            assert not autocasts("cpu")
