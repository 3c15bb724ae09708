"""How many epochs transfer knowledge, and how strongly."""

from __future__ import annotations

import pytest

from recbole_llmkt.transfer.auxiliary.schedule import transfer_epochs, weight_factor
from recbole_llmkt.utils.exceptions import ConfigError


@pytest.mark.parametrize(
    ("epochs", "length", "eval_step", "expected"),
    [
        (70, 0.5, 1, 35),
        (70, 10, 1, 10),
        (70, 1.0, 1, 70),
        (70, 70, 1, 70),
        (1, 1.0, 1, 1),
        (1, 1, 1, 1),
        (2, 0.5, 1, 1),
        (7, 1 / 7, 1, 1),
        (10, 0.9, 0, 9),
        (10, 0.99, 1, 9),  # rounds to all ten, but phase 2 keeps one
        (10, 0.04, 1, 1),  # rounds to none, but phase 1 keeps one
        (1, 0.5, 1, None),
        (5, 6, 1, None),
        (0, 0.5, 1, None),
        (10, 5, 5, 5),
        (10, 9, 5, 9),
        (10, 8, 4, None),  # the last validation is at epoch 8
        (10, 5, 11, None),
        (10, 1.0, 11, 10),  # no phase 2, nothing to choose
        (10, 5, 0, 5),  # no validations at all
    ],
)
def test_length_of_phase_1(epochs, length, eval_step, expected):
    if expected is None:
        with pytest.raises(ConfigError, match=r"phase|more than epochs"):
            transfer_epochs(epochs, length, eval_step)
    else:
        count = transfer_epochs(epochs, length, eval_step)
        assert count == expected and isinstance(count, int)


def test_every_share_leaves_both_phases():
    for epochs in range(2, 30):
        for share in (0.01, 0.1, 0.25, 0.5, 0.75, 0.99):
            count = transfer_epochs(epochs, share)
            assert 0 < count < epochs
            assert abs(count - epochs * share) <= 1.0


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0]),
        ("linear", [1.0, 0.75, 0.5, 0.25]),
        ("cosine", [1.0, 0.8535533905932737, 0.5, 0.14644660940672627]),
    ],
)
def test_the_weight_within_phase_1(schedule, expected):
    factors = [weight_factor(schedule, epoch, 4) for epoch in range(4)]
    assert factors == pytest.approx(expected)
    assert weight_factor(schedule, 0, 1) == 1.0


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_weight_falls_to_nothing_at_the_switch(schedule):
    factors = [weight_factor(schedule, epoch, 50) for epoch in range(51)]
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == pytest.approx(0.0, abs=1e-12)
