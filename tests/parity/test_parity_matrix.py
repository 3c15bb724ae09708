"""Every model: off is stock RecBole bit for bit; on transfers, and leaves a stock checkpoint."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from parity_cases import CONTEXT, GENERAL, KNOWLEDGE, SEQUENTIAL, Case
from parity_checks import Lab, check_alignment, check_checkpoint, check_equal, check_transfer

MATRIX = [*GENERAL, *CONTEXT, *SEQUENTIAL, *KNOWLEDGE]


@pytest.fixture(scope="module", params=MATRIX, ids=str)
def lab(request: pytest.FixtureRequest, make_lab: Callable[[Case], Lab]) -> Lab:
    return make_lab(request.param)


def test_off_is_stock_and_on_transfers(lab: Lab) -> None:
    stock = lab.stock()
    check_equal(lab.run(kt_enabled=False), stock)
    check_equal(lab.run(kt_weight=0), stock)
    on = lab.run(kt_enabled=True, **lab.case.transfer)
    check_transfer(on, stock)
    check_checkpoint(on, lab)


def test_a_target_pulls_its_own_user_only(lab: Lab) -> None:
    check_alignment(lab)
