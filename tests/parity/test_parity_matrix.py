"""Every model: off is stock RecBole bit for bit; on transfers, and leaves a stock checkpoint."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest

from recbole_llmkt.registry import model_names
from recbole_llmkt.utils.exceptions import LayerError
from tests.parity.parity_cases import (
    CONTEXT,
    GENERAL,
    KGAT,
    KNOWLEDGE,
    LIBRARIES,
    LR,
    SEQUENTIAL,
    Case,
)
from tests.parity.parity_checks import (
    Lab,
    check_alignment,
    check_checkpoint,
    check_equal,
    check_transfer,
)

MATRIX = [*GENERAL, *CONTEXT, *SEQUENTIAL, *KNOWLEDGE]


def is_missing(case: Case) -> bool:
    library = LIBRARIES.get(case.model)
    return library is not None and importlib.util.find_spec(library) is None


@pytest.fixture(scope="module", params=MATRIX, ids=str)
def lab(request: pytest.FixtureRequest, make_lab: Callable[[Case], Lab]) -> Lab:
    case = request.param
    if is_missing(case):
        pytest.skip(f"{case} needs {LIBRARIES[case.model]} in stock RecBole too")
    return make_lab(case)


def test_off_is_stock_and_on_transfers(lab: Lab) -> None:
    stock = lab.stock()
    check_equal(lab.run(kt_enabled=False), stock)
    check_equal(lab.run(kt_weight=0), stock)
    on = lab.run(kt_enabled=True, **lab.case.transfer)
    check_transfer(on, stock)
    check_checkpoint(on, stock)


def test_a_target_pulls_its_own_user_only(lab: Lab) -> None:
    check_alignment(lab)


@pytest.mark.parametrize("case", [case for case in MATRIX if case.model in LIBRARIES], ids=str)
def test_without_its_library_stock_fails_too(
    case: Case, make_lab: Callable[[Case], Lab], data_path: object
) -> None:
    if not is_missing(case):
        pytest.skip(f"{LIBRARIES[case.model]} is installed")
    lab = make_lab(
        next(other for other in MATRIX if other.kind == case.kind and not is_missing(other))
    )
    lab.case = case
    with pytest.raises(ModuleNotFoundError, match=LIBRARIES[case.model]):
        lab.stock()


def test_kgat_fails_in_stock_too(make_lab: Callable[[Case], Lab]) -> None:
    lab = make_lab(KNOWLEDGE[0])
    lab.case = KGAT
    # Without dgl; with a dgl for Python 3.9 or newer, which dropped preserve_nodes.
    with pytest.raises((ModuleNotFoundError, TypeError), match=r"dgl|preserve_nodes"):
        lab.stock()


def test_lr_is_refused_with_the_reason(make_lab: Callable[[Case], Lab]) -> None:
    lab = make_lab(LR)
    check_equal(lab.run(kt_enabled=False), lab.stock())
    with pytest.raises(LayerError, match="hidden layers have width 1"):
        lab.run(kt_enabled=True)


# Not trained by gradient descent; XGBoost and LightGBM are no part of these packages' names.
UNTRAINED = {
    *("ADMMSLIM", "AsymKNN", "EASE", "ItemKNN", "NCEPLRec", "Pop", "Random", "SLIMElastic"),
}
# Parts of other models, or models that need embeddings or pre-trained files of their own.
SPECIAL = {"S3Rec", "KGAT", "LR", "GRU4RecKG", "KSR", "GRU4RecCPR", "SASRecCPR", "DAGFM"}


def test_no_model_of_recbole_is_forgotten() -> None:
    tested = {case.model for case in MATRIX}
    names = {name for name in model_names() if name[0].isupper()}
    assert names - tested - UNTRAINED - SPECIAL == set()
