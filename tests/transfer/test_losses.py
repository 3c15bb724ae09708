"""Every loss against its equation, written out with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_llmkt.transfer.losses import LOSSES, Others, TransferLoss, make_loss
from recbole_llmkt.transfer.losses.base import to_unit_length, unique_rows
from recbole_llmkt.utils.exceptions import ConfigError

HIDDEN = np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]], dtype=np.float32)
TARGET = np.array([[0.0, 2.0], [2.0, -1.0], [3.0, 1.5]], dtype=np.float32)
IDS = torch.tensor([4, 7, 4])


class HalfLoss(TransferLoss):
    """A loss of the user's own, given by its class path."""

    def compute(self, hidden, target, ids):
        return 0.5 * (hidden - target).abs().sum()


# A second kind of entity, for softrank; the last id stands twice.
PARTNER_HIDDEN = np.array([[0.5, 1.0], [-1.0, 0.25], [1.0, 1.0], [3.0, -1.0]], dtype=np.float32)
PARTNER_TARGET = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [1.0, 1.0]], dtype=np.float32)
PARTNER_IDS = torch.tensor([5, 2, 9, 9])
RECONSTRUCTIONS = ("rmse", "mse", "cosine", "sce")


def tensors():
    return torch.tensor(HIDDEN, requires_grad=True), torch.tensor(TARGET)


def others():
    return Others(
        partner_hidden=torch.tensor(PARTNER_HIDDEN),
        partner_target=torch.tensor(PARTNER_TARGET),
        partner_ids=PARTNER_IDS,
    )


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def softmax(rows):
    powers = np.exp(rows)
    return powers / powers.sum(1, keepdims=True)


def once(rows, ids):
    """One row an id, by ascending id: the mean of its rows."""
    ids = np.asarray(ids)
    return np.stack([rows[ids == entity].mean(0) for entity in np.unique(ids)]).astype(np.float64)


def by_hand(name: str) -> float:
    z, p = HIDDEN.astype(np.float64), TARGET.astype(np.float64)
    difference = z - p
    m, n = difference.shape
    if name == "rmse":  # Eq. 2: sqrt(sum((z - p)^2) / (m n)) = sqrt((1 + 4 + 1) / 6)
        return float(np.sqrt((difference**2).sum() / (m * n)))
    if name == "mse":
        return float((difference**2).sum() / (m * n))
    if name in ("cosine", "sce"):
        errors = 1 - (unit(z) * unit(p)).sum(1)
        return float(np.mean(errors ** (2 if name == "sce" else 1)))
    # Id 4 stands in two rows, with two targets here: a run has one, that of the first row.
    z, p = once(z, IDS), p[:2]
    if name == "gram":
        return float(((unit(z) @ unit(z).T - unit(p) @ unit(p).T) ** 2).sum() / 2**2)
    if name in ("infonce", "generative"):
        powers = np.exp(unit(z) @ unit(p).T / 0.2)
        return float(np.mean(-np.log(np.diag(powers) / powers.sum(1))))
    items = once(PARTNER_HIDDEN, PARTNER_IDS)
    wanted = softmax(unit(p) @ unit(once(PARTNER_TARGET, PARTNER_IDS)).T / 0.2)
    given = softmax(z @ items.T / 0.2)
    weights = np.log(3) + (wanted * np.log(wanted)).sum(1)
    return float((weights * -(wanted * np.log(given)).sum(1)).sum() / weights.sum())


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_value_is_the_equations(name):
    hidden, target = tensors()
    loss = make_loss(name)(hidden, target, IDS, others())
    assert loss.shape == ()
    assert loss.item() == pytest.approx(by_hand(name), rel=1e-5)


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


@pytest.mark.parametrize("rows", [3, 40])  # fewer rows than columns, and more
def test_gram_is_the_difference_of_all_pairs(rows):
    random = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, 4, generator=random).requires_grad_()
    target = torch.randn(rows, 7, generator=random)
    loss = make_loss("gram")(hidden, target, torch.arange(rows))
    loss.backward()
    again = hidden.detach().double().requires_grad_()
    z, p = (torch.nn.functional.normalize(table.double()) for table in (again, target))
    pairs = (z @ z.T - p @ p.T).square().mean()
    pairs.backward()
    assert loss.item() == pytest.approx(pairs.item(), rel=1e-5)
    torch.testing.assert_close(hidden.grad.double(), again.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", [*RECONSTRUCTIONS, "gram"])
def test_perfect_reconstruction_has_zero_loss_and_gradient(name):
    hidden = torch.tensor(TARGET, requires_grad=True)
    loss = make_loss(name)(hidden, torch.tensor(TARGET), torch.tensor([4, 7, 5]))
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(hidden.grad.numpy(), 0.0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_zero_hidden_state_gives_a_finite_gradient(name):
    hidden = torch.zeros(3, 2, requires_grad=True)
    make_loss(name)(hidden, torch.tensor(TARGET), IDS, others()).backward()
    assert torch.isfinite(hidden.grad).all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_no_rows_keep_the_graph(name):
    hidden = torch.zeros(0, 2, requires_grad=True)
    no_ids = torch.zeros(0, dtype=torch.long)
    loss = make_loss(name)(hidden, torch.zeros(0, 2), no_ids, others())
    loss.backward()
    assert loss.item() == 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_half_precision_is_computed_in_float32(name, dtype):
    hidden = torch.tensor(HIDDEN * 300, dtype=dtype, requires_grad=True)  # squares overflow float16
    loss = make_loss(name)(hidden, torch.tensor(TARGET, dtype=dtype), IDS, others())
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss) and torch.isfinite(hidden.grad).all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_autocast_gives_the_same_value(name):
    hidden, target = tensors()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = make_loss(name)(hidden, target, IDS, others())
    assert inside.item() == pytest.approx(by_hand(name), rel=1e-5)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_very_low_temperature_and_very_long_states_stay_finite(name):
    hidden = torch.tensor(HIDDEN * 1e4, requires_grad=True)
    loss = make_loss(name, temperature=1e-4)(hidden, torch.tensor(TARGET), IDS, others())
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(hidden.grad).all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_gradient_is_the_differences(name):
    """Against central differences, in the float32 that the losses compute in."""
    hidden, target = tensors()
    loss = make_loss(name, temperature=1.0)
    loss(hidden, target, IDS, others()).backward()
    step = 1e-2
    for place in np.ndindex(HIDDEN.shape):
        values = []
        for sign in (1, -1):
            moved = torch.tensor(HIDDEN)
            moved[place] += sign * step
            values.append(loss(moved, target, IDS, others()).item())
        slope = (values[0] - values[1]) / (2 * step)
        assert hidden.grad[place].item() == pytest.approx(slope, abs=2e-3)


def test_shapes_that_do_not_belong_together():
    loss = make_loss("rmse")
    with pytest.raises(ValueError, match="same number of rows"):
        loss(torch.zeros(3, 2), torch.zeros(2, 2), IDS)
    with pytest.raises(ValueError, match="same number of rows"):
        loss(torch.zeros(3, 2), torch.zeros(3, 2), IDS[:2])
    with pytest.raises(ValueError, match="2 wide and target 4"):
        loss(torch.zeros(3, 2), torch.zeros(3, 4), IDS)


# ---- contrasts -----------------------------------------------------------------------------------


def wave(rows, width, shift):
    i, j = torch.arange(rows)[:, None], torch.arange(width)
    return torch.sin(shift + 7.0 * i + 3.0 * j + i * j).float()


@pytest.mark.parametrize(
    ("name", "whole", "temperature", "value", "gradient", "entry"),
    [
        ("infonce", True, 0.2, 4.195607811, 6.839188161, 0.151944815),
        ("infonce", False, 0.2, 3.444482423, 6.014459905, 0.030408550),
        ("generative", False, 0.2, 3.444480954, 6.014442707, 0.030408549),
        ("infonce", True, 1.0, 2.542095378, 1.355377710, 0.028717779),
        ("infonce", False, 1.0, 1.958819402, 1.194371426, 0.009359607),
        ("generative", False, 1.0, 1.958819330, 1.194371330, 0.009359607),
    ],
)
def test_contrasts_are_rlmrecs(name, whole, temperature, value, gradient, entry):
    """Values and gradients that the authors' functions give in float64, a mean over six rows.

    ``infonce`` is their cal_infonce_loss against a whole table and against the batch,
    ``generative`` their ssl_con_loss (which adds 1e-8 to what it divides by and takes logs of).
    """
    ids = torch.tensor([3, 0, 10, 7, 5, 1])
    hidden, table = wave(6, 5, 0.5).requires_grad_(), wave(11, 5, 2.0)
    among = Others(table=table) if whole else None
    loss = make_loss(name, temperature)(hidden, table[ids], ids, among)
    loss.backward()
    assert loss.item() == pytest.approx(value, rel=1e-6)
    assert hidden.grad.abs().sum().item() == pytest.approx(gradient, rel=1e-5)
    assert hidden.grad[2, 3].item() == pytest.approx(entry, rel=1e-4)


@pytest.mark.parametrize("name", ["infonce", "generative", "gram", "softrank"])
def test_an_id_of_several_rows_counts_once(name):
    hidden, table = wave(4, 2, 0.5), wave(11, 2, 2.0)
    ids = torch.tensor([3, 0, 10, 7])
    loss = make_loss(name)
    value = loss(hidden, table[ids], ids, others())
    repeated = torch.tensor([2, 0, 1, 2, 2, 3])
    again = loss(hidden[repeated], table[ids[repeated]], ids[repeated], others())
    assert again.item() == pytest.approx(value.item(), rel=1e-5)


def test_rows_of_an_id_become_their_mean():
    hidden, _ = tensors()
    rows, ids, first = unique_rows(hidden, torch.tensor([7, 4, 7]))
    assert ids.tolist() == [4, 7]
    torch.testing.assert_close(rows, torch.stack([hidden[1], (hidden[0] + hidden[2]) / 2]))
    assert first.tolist() == [1, 0]
    rows.sum().backward()
    assert hidden.grad[:, 0].tolist() == [0.5, 1.0, 0.5]
    in_order, ids, first = unique_rows(hidden, torch.tensor([9, 4, 7]))
    torch.testing.assert_close(in_order, hidden[[1, 2, 0]])
    assert ids.tolist() == [4, 7, 9]
    assert first.tolist() == [1, 2, 0]


def test_a_learned_target_gets_a_whole_gradient_from_one_row():
    target = torch.tensor(TARGET[[0, 1, 0]], requires_grad=True)
    _, _, first = unique_rows(torch.tensor(HIDDEN), torch.tensor([7, 4, 7]))
    target[first].sum().backward()
    assert target.grad.sum().item() == 4.0


def test_unit_length_of_a_zero_row():
    zero = torch.zeros(1, 3, requires_grad=True)
    to_unit_length(zero).sum().backward()
    assert zero.grad.abs().max() <= 1.01e4
    torch.testing.assert_close(
        to_unit_length(torch.tensor([[3.0, 4.0]])), torch.tensor([[0.6, 0.8]])
    )


def test_one_entity_has_nobody_to_be_told_from():
    hidden = torch.tensor(HIDDEN[:1], requires_grad=True)
    loss = make_loss("generative")(hidden, torch.tensor(TARGET[:1]), IDS[:1])
    loss.backward()
    assert loss.item() == 0.0 and not hidden.grad.any()


# ---- structure -----------------------------------------------------------------------------------


def test_gram_and_softrank_need_no_equal_widths():
    hidden, target = wave(3, 2, 0.5), wave(3, 7, 1.0)
    beside = Others(
        partner_hidden=wave(4, 2, 3.0), partner_target=wave(4, 7, 2.0), partner_ids=PARTNER_IDS
    )
    for name in ("gram", "softrank"):
        assert make_loss(name)(hidden, target, torch.tensor([4, 7, 5]), beside) > 0


def test_softrank_is_least_where_the_rankings_are_those_of_the_profiles():
    """Its gradient is zero where hidden states score the items as the profiles do."""
    users, items = to_unit_length(wave(3, 4, 0.5)), to_unit_length(wave(5, 4, 2.0))
    hidden = users.clone().requires_grad_()
    beside = Others(partner_hidden=items, partner_target=items, partner_ids=torch.arange(5))
    make_loss("softrank")(hidden, users, torch.arange(3), beside).backward()
    assert hidden.grad.abs().max() < 1e-6


def test_softrank_weighs_users_by_what_their_profile_says():
    """A profile at equal angles to all items says nothing: that user's state gets no gradient."""
    hidden = torch.tensor([[0.3, -0.2], [0.1, 0.4]], requires_grad=True)
    target = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    items = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    beside = Others(
        partner_hidden=wave(2, 2, 1.0), partner_target=items, partner_ids=torch.arange(2)
    )
    make_loss("softrank")(hidden, target, torch.arange(2), beside).backward()
    assert hidden.grad[0].abs().max() < 1e-6 < hidden.grad[1].abs().max()


def test_softrank_without_items():
    hidden, target = tensors()
    with pytest.raises(ValueError, match="other entity"):
        make_loss("softrank")(hidden, target, IDS)
    nobody = Others(
        partner_hidden=torch.zeros(0, 2),
        partner_target=torch.zeros(0, 2),
        partner_ids=torch.zeros(0, dtype=torch.long),
    )
    assert make_loss("softrank")(hidden, target, IDS, nobody).item() == 0.0


class NoLoss(TransferLoss):
    """Computes nothing."""


class NeedyLoss(HalfLoss):
    """Needs what nobody gives it."""

    def __init__(self, margin):
        super().__init__()
        self.margin = margin


# ---- names ---------------------------------------------------------------------------------------


def test_own_loss_by_class_path():
    hidden, target = tensors()
    loss = make_loss(f"{__name__}.HalfLoss")
    assert loss(hidden, target, IDS).item() == pytest.approx(2.0)
    assert make_loss(f"{__name__}.HalfLoss", temperature=0.7).temperature == 0.7


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rmze", "Unknown kt_loss 'rmze': choose one of rmse, mse, .* Did you mean 'rmse'"),
        ("torch.nn.Linear", "^kt_loss: 'torch.nn.Linear' is not a subclass of TransferLoss"),
        (
            f"{__name__}.NoLoss",
            rf"^kt_loss: '{__name__}.NoLoss' has no compute\(hidden, target, ids\): define it, and "
            r"return the loss of the rows as a tensor of shape \(\)\.$",
        ),
        (f"{__name__}.NeedyLoss", f"^kt_loss: '{__name__}.NeedyLoss' cannot be created: TypeError"),
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
