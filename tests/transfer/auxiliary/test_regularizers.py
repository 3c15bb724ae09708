"""The guard against collapse, against its equation written out with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_llmkt.transfer.auxiliary.regularizers import REGULARIZERS, VICReg, make_regularizer

HIDDEN = np.array([[0.1, 0.2], [0.0, -0.3], [0.4, 0.1], [0.2, 0.0]])
TARGET = np.array([[0.5, 2.0], [2.0, -1.0], [-3.0, 1.5], [0.0, 0.0]])
IDS = torch.arange(4)


def by_hand(hidden: np.ndarray, target: np.ndarray) -> float:
    spread = np.sqrt(target.var(0, ddof=1).mean())
    covariance = np.cov(hidden.T / spread)
    width = len(covariance)
    hinge = np.maximum(0, 1 - np.sqrt(np.diag(covariance) + 1e-4)).sum() / width
    crossed = (covariance**2).sum() - (np.diag(covariance) ** 2).sum()
    return float(hinge + crossed / width / 25)


def guard(hidden, target, ids=IDS):
    return VICReg()(torch.tensor(hidden), torch.tensor(target), ids).item()


def test_value_is_the_equations():
    assert guard(HIDDEN, TARGET) == pytest.approx(by_hand(HIDDEN, TARGET), rel=1e-5)
    wide = HIDDEN * [30.0, 50.0]  # beyond the hinge: covariance alone
    assert guard(wide, TARGET) == pytest.approx(by_hand(wide, TARGET), rel=1e-5)


def test_collapsed_states_cost_most_and_are_pushed_apart():
    hidden = torch.tensor(HIDDEN * 1e-2, requires_grad=True)
    loss = VICReg()(hidden, torch.tensor(TARGET), IDS)
    loss.backward()
    assert loss.item() == pytest.approx(1.0, abs=0.02)
    centred = hidden.detach() - hidden.detach().mean(0)
    assert (hidden.grad * centred).sum() < 0  # a step against the gradient spreads them


def test_states_as_wide_as_the_targets_and_uncorrelated_cost_nothing():
    square = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert guard(square, square) == pytest.approx(0.0, abs=1e-6)
    # The targets' length is the unit: half of it makes no difference to both.
    assert guard(0.5 * square, 0.5 * square) == pytest.approx(0.0, abs=1e-6)
    assert guard(0.5 * square, square) == pytest.approx(by_hand(0.5 * square, square), rel=1e-5)


def test_an_id_of_several_rows_counts_once():
    rows = [0, 1, 1, 2, 3, 3]
    twice = guard(HIDDEN[rows], TARGET[rows], torch.tensor(rows))
    assert twice == pytest.approx(guard(HIDDEN, TARGET), rel=1e-5)


@pytest.mark.parametrize("ids", [[], [4], [4, 4]], ids=str)
def test_fewer_than_two_entities_cost_nothing(ids):
    hidden = torch.randn(len(ids), 2, requires_grad=True)
    loss = VICReg()(hidden, torch.randn(len(ids), 2), torch.tensor(ids, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0.0


def test_equal_targets_stay_finite():
    hidden = torch.tensor(HIDDEN, requires_grad=True)
    VICReg()(hidden, torch.ones(4, 3), IDS).backward()
    assert torch.isfinite(hidden.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    hidden = torch.tensor(HIDDEN * 1e3, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = VICReg()(hidden, torch.tensor(TARGET, dtype=dtype), IDS)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss) and torch.isfinite(hidden.grad).all()


def test_names():
    assert make_regularizer("none") is None
    assert {name: type(make_regularizer(name)) for name in REGULARIZERS} == REGULARIZERS
