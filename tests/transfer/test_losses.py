"""Every loss against its equation, written out with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_llmkt.exceptions import ConfigError
from recbole_llmkt.transfer.losses import LOSSES, TransferLoss, make_loss

HIDDEN = np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]], dtype=np.float32)
TARGET = np.array([[0.0, 2.0], [2.0, -1.0], [3.0, 1.5]], dtype=np.float32)
IDS = torch.tensor([4, 7, 4])


class HalfLoss(TransferLoss):
    """A loss of the user's own, given by its class path."""

    def compute(self, hidden, target, ids):
        return 0.5 * (hidden - target).abs().sum()


def tensors():
    return torch.tensor(HIDDEN, requires_grad=True), torch.tensor(TARGET)


def by_hand(name: str) -> float:
    difference = HIDDEN - TARGET
    m, n = difference.shape
    if name == "rmse":  # Eq. 2: sqrt(sum((z - p)^2) / (m n)) = sqrt((1 + 4 + 1) / 6)
        return float(np.sqrt((difference**2).sum() / (m * n)))
    if name == "mse":
        return float((difference**2).sum() / (m * n))
    lengths = np.linalg.norm(HIDDEN, axis=1) * np.linalg.norm(TARGET, axis=1)
    return float(np.mean(1 - (HIDDEN * TARGET).sum(axis=1) / lengths))


@pytest.mark.parametrize("name", ["rmse", "mse", "cosine"])
def test_value_is_the_equations(name):
    hidden, target = tensors()
    loss = make_loss(name)(hidden, target, IDS)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(by_hand(name), rel=1e-6)


def test_rmse_is_one_here():
    assert by_hand("rmse") == pytest.approx(1.0)


def test_rmse_gradient_by_hand():
    hidden, target = tensors()
    make_loss("rmse")(hidden, target, IDS).backward()
    difference = HIDDEN - TARGET
    expected = difference / (difference.size * by_hand("rmse"))
    np.testing.assert_allclose(hidden.grad.numpy(), expected, rtol=1e-6)


def test_mse_gradient_by_hand():
    hidden, target = tensors()
    make_loss("mse")(hidden, target, IDS).backward()
    np.testing.assert_allclose(hidden.grad.numpy(), 2 * (HIDDEN - TARGET) / 6, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_perfect_reconstruction_has_zero_loss_and_gradient(name):
    hidden = torch.tensor(TARGET, requires_grad=True)
    loss = make_loss(name)(hidden, torch.tensor(TARGET), IDS)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(hidden.grad.numpy(), 0.0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_zero_hidden_state_gives_a_finite_gradient(name):
    hidden = torch.zeros(3, 2, requires_grad=True)
    make_loss(name)(hidden, torch.tensor(TARGET), IDS).backward()
    assert torch.isfinite(hidden.grad).all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_no_rows_keep_the_graph(name):
    hidden = torch.zeros(0, 2, requires_grad=True)
    loss = make_loss(name)(hidden, torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_half_precision_is_computed_in_float32(name, dtype):
    hidden = torch.tensor(HIDDEN * 300, dtype=dtype, requires_grad=True)  # squares overflow float16
    loss = make_loss(name)(hidden, torch.tensor(TARGET), IDS)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss) and torch.isfinite(hidden.grad).all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_autocast_gives_the_same_value(name):
    hidden, target = tensors()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = make_loss(name)(hidden, target, IDS)
    assert inside.item() == pytest.approx(by_hand(name), rel=1e-5)


def test_shapes_that_do_not_belong_together():
    loss = make_loss("rmse")
    with pytest.raises(ValueError, match="same number of rows"):
        loss(torch.zeros(3, 2), torch.zeros(2, 2), IDS)
    with pytest.raises(ValueError, match="same number of rows"):
        loss(torch.zeros(3, 2), torch.zeros(3, 2), IDS[:2])
    with pytest.raises(ValueError, match="2 wide and target 4"):
        loss(torch.zeros(3, 2), torch.zeros(3, 4), IDS)


def test_own_loss_by_class_path():
    hidden, target = tensors()
    loss = make_loss(f"{__name__}.HalfLoss")
    assert loss(hidden, target, IDS).item() == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rmze", "Did you mean 'rmse'"),
        ("torch.nn.Linear", "subclass of TransferLoss"),
        ("no_such_module.Loss", "Cannot import 'no_such_module.Loss'"),
        ("torch.nn.NoSuchLoss", "Cannot import 'torch.nn.NoSuchLoss'"),
        ("torch.nn.init", "is not a class"),
        (".Loss", "Cannot import"),
        ("torch.", "Cannot import"),
    ],
)
def test_unusable_names(name, message):
    with pytest.raises(ConfigError, match=message):
        make_loss(name)
