"""The auxiliary task: the loss of one step written out by hand, terms, and joins by token."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from recbole.utils import init_seed

from recbole_llmkt.profiles.embeddings import embedding_paths
from recbole_llmkt.transfer.auxiliary.regularizers import VICReg
from recbole_llmkt.transfer.auxiliary.settings import term_settings
from recbole_llmkt.transfer.losses import TransferLoss
from recbole_llmkt.utils.exceptions import ConfigError
from tests.helpers import ENCODER, add_profiles, one_step, prepare, task_of


def test_one_step_of_neumf_is_the_papers_equation_1(tiny):
    """L = (1 - a) L_model + a sqrt(sum((z - p)^2) / (m n)), value and gradient."""
    alpha = 0.3
    run = prepare(tiny.config("NeuMF", kt_weight=alpha, dropout_prob=0.2))
    task = task_of(run)
    init_state = copy.deepcopy(run.train_data.generator.get_state())
    batch, loss, grads = one_step(run, task)
    run.train_data.generator.set_state(init_state)
    _, model_loss, model_grads = one_step(run)

    table = run.model.user_mf_embedding.weight.detach().numpy().astype(np.float64)
    users = batch["user_id"].numpy()
    difference = table[users] - task.terms[0].table.values.numpy().astype(np.float64)[users]
    rmse = np.sqrt((difference**2).sum() / difference.size)
    assert loss.item() == pytest.approx((1 - alpha) * model_loss.item() + alpha * rmse, rel=1e-5)

    by_hand = np.zeros_like(table)
    np.add.at(by_hand, users, difference / (difference.size * rmse))
    for name, gradient in grads.items():
        expected = (1 - alpha) * model_grads[name].numpy()
        if name == "user_mf_embedding.weight":
            expected = expected + alpha * by_hand
        np.testing.assert_allclose(gradient.numpy(), expected, atol=1e-6, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("entity", ["user", "both"])
def test_loss_ratio_makes_each_term_as_large_as_the_models_loss(tiny, entity):
    """L = (1 - a) L_model + a beta L_transfer, with beta = L_model / L_transfer a constant."""
    alpha = 0.4
    steps = {}
    for balance in ("fixed", "loss_ratio"):
        run = prepare(tiny.config("BPR", kt_weight=alpha, kt_entity=entity, kt_balance=balance))
        task = task_of(run)
        state = run.train_data.generator.get_state()
        _, loss, grads = one_step(run, task)
        run.train_data.generator.set_state(state)
        batch, model_loss, model_grads = one_step(run)
        steps[balance] = loss, grads
    weights = {"user": run.model.user_embedding.weight, "item": run.model.item_embedding.weight}
    rows = {"user": batch["user_id"], "item": torch.cat([batch["item_id"], batch["neg_item_id"]])}
    assert steps["loss_ratio"][0].item() == pytest.approx(model_loss.item(), rel=1e-5)
    for term in task.terms:
        kind = term.profiles.entity
        difference = (weights[kind][rows[kind]] - term.table.values[rows[kind]]).detach()
        beta = model_loss / difference.square().mean().sqrt()
        name = f"{kind}_embedding.weight"
        kept = (1 - alpha) * model_grads[name]
        transfer = steps["fixed"][1][name] - kept
        torch.testing.assert_close(steps["loss_ratio"][1][name], kept + beta * transfer)


def test_users_without_a_profile_get_no_gradient_of_the_transfer_loss(make_dataset):
    dataset = make_dataset()
    without = [f"u{i}" for i in range(12)]
    add_profiles(dataset, without=without)
    run = prepare(dataset.config("BPR", kt_weight=1.0))
    _, _, grads = one_step(run, task_of(run))
    ids = run.dataset.token2id("user_id", without)
    moved = grads["user_embedding.weight"].abs().sum(1) > 0
    assert not moved[ids].any() and moved.sum() == 18


def test_a_batch_without_any_profile_has_the_models_loss_alone(make_dataset):
    dataset = make_dataset()
    add_profiles(dataset, without=[f"u{i}" for i in range(1, 30)])
    run = prepare(dataset.config("BPR", kt_transform="random"))
    task = task_of(run)
    batch = next(iter(run.train_data))
    known = run.dataset.token2id("user_id", "u0")
    batch = batch[batch["user_id"] != known]
    with task.attached() as meter:
        loss = run.model.calculate_loss(batch)
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * run.model.calculate_loss(batch).item())
    assert meter.means()[1] == 0.0


def test_two_terms_share_one_weight(tiny):
    run = prepare(tiny.config("BPR", kt_entity="both", kt_weight=0.6))
    task = task_of(run)
    init_state = run.train_data.generator.get_state()
    batch, loss, _ = one_step(run, task)
    run.train_data.generator.set_state(init_state)
    _, model_loss, _ = one_step(run)
    total = 0.4 * model_loss.item()
    weights = (run.model.user_embedding.weight, run.model.item_embedding.weight)
    items = torch.cat([batch["item_id"], batch["neg_item_id"]])
    for ids, weight, term in zip((batch["user_id"], items), weights, task.terms):
        assert term.weight == pytest.approx(0.3)
        difference = (weight[ids] - term.table.values[ids]).detach().numpy()
        total += 0.3 * np.sqrt((difference**2).mean())
    assert loss.item() == pytest.approx(total, rel=1e-5)


def test_the_wrapper_comes_off(tiny):
    run = prepare(tiny.config("BPR"))
    task = task_of(run)
    before = dict(vars(run.model))
    with task.attached():
        assert "calculate_loss" in vars(run.model)
    assert vars(run.model).keys() == before.keys()
    with pytest.raises(ZeroDivisionError), task.attached():
        raise ZeroDivisionError
    assert "calculate_loss" not in vars(run.model)


def test_making_a_task_leaves_model_and_loader_as_they_are(tiny):
    for model in ("NeuMF", "MultiVAE", "SimpleX", "LightGCN"):
        run = prepare(tiny.config(model, latent_dimension=8, history_len=4))
        state = {name: value.clone() for name, value in run.model.state_dict().items()}
        counters = {
            key: value for key, value in vars(run.model).items() if type(value) in (int, float)
        }
        generator = run.train_data.generator.get_state()
        task_of(run)
        assert all(
            torch.equal(state[name], value) for name, value in run.model.state_dict().items()
        )
        assert all(vars(run.model)[key] == value for key, value in counters.items())
        assert torch.equal(generator, run.train_data.generator.get_state())
        assert all(parameter.grad is None for parameter in run.model.parameters())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in run.model.modules())


# ---- joins by token ------------------------------------------------------------------------------


def test_one_users_vector_changes_one_users_row_found_by_token(make_dataset):
    """Under a k-core filter, with tokens whose order is not that of RecBole's ids."""
    keys = {"user_inter_num_interval": "[12,18]", "kt_transform": "random"}
    dataset = make_dataset(n_users=40)
    add_profiles(dataset, **keys)
    before = prepare(dataset.config("BPR", **keys))
    tokens = before.dataset.field2id_token["user_id"][1:]
    assert 5 < len(tokens) < 40
    first = task_of(before).terms[0].table
    path, ids_path = embedding_paths(dataset.folder / "profiles", ENCODER, "user")
    for token in (tokens[0], tokens[len(tokens) // 2], tokens[-1]):
        vectors = np.load(path)
        changed = vectors.copy()
        changed[json.loads(ids_path.read_text())["ids"].index(token)] += 1.0
        np.save(path, changed)
        after = prepare(dataset.config("BPR", **keys))
        second = task_of(after).terms[0].table
        np.save(path, vectors)
        rows = (first.values != second.values).any(1).nonzero().flatten()
        assert [str(after.dataset.id2token("user_id", int(row))) for row in rows] == [token]
        assert torch.equal(first.mask, second.mask)


def test_the_interval_reaches_recbole_from_a_dict_too(make_dataset):
    dataset = make_dataset(n_users=40)
    counts: dict[str, int] = {}
    for user, *_ in dataset.rows:
        counts[user] = counts.get(user, 0) + 1
    run = prepare(dataset.config("BPR", user_inter_num_interval="[12,18]", kt_enabled=False))
    kept = {str(token) for token in run.dataset.field2id_token["user_id"][1:]}
    assert kept == {user for user, count in counts.items() if 12 <= count <= 18}


# ---- settings ------------------------------------------------------------------------------------


def settings(**keys):
    values = {"kt_layer": "auto", "kt_rows": "auto", "kt_entity": "user", "kt_weight": 0.5}
    return term_settings({**values, **keys})


def test_settings_of_terms():
    (term,) = settings()
    assert (term.layer, term.rows, term.entity, term.weight) == ("auto", "auto", "user", 0.5)
    both = settings(kt_entity="both", kt_layer=["a", "b"], kt_weight=[0.1, 0.2])
    assert [(t.layer, t.entity, t.weight) for t in both] == [("a", "user", 0.1), ("b", "item", 0.2)]
    assert [t.weight for t in settings(kt_layer=["a", "b", "c"], kt_weight=0.6)] == [
        pytest.approx(0.2)
    ] * 3
    assert [t.layer for t in settings(kt_layer=["a", "b"], kt_weight=[0, 0.2])] == ["b"]
    assert settings(kt_weight=0) == []
    assert len(settings(kt_layer=["a"] * 10, kt_weight=[0.1] * 10)) == 10  # adds up to 1, nearly


def test_lists_that_do_not_fit():
    with pytest.raises(ConfigError, match=r"kt_layer has 3.*kt_entity has 2"):
        settings(kt_layer=["a", "b", "c"], kt_entity=["user", "item"])
    with pytest.raises(ConfigError, match="more than 1"):
        settings(kt_layer=["a", "b"], kt_weight=[0.6, 0.5])


# ---- the guard, the schedule, the ratio of gradients ---------------------------------------------


def test_the_guard_is_part_of_the_transfer_loss(tiny):
    values = {}
    for weight in (0.0, 0.1):
        keys = {"kt_regularizer": "vicreg", "kt_regularizer_weight": weight, "kt_weight": 1.0}
        run = prepare(tiny.config("BPR", **keys))
        task = task_of(run)
        batch, values[weight], _ = one_step(run, task)
    ids, table = batch["user_id"], task.terms[0].table.values
    guard = VICReg()(run.model.user_embedding.weight[ids], table[ids], ids).item()
    assert (values[0.1] - values[0.0]).item() == pytest.approx(0.1 * guard, rel=1e-4)


def test_a_factor_scales_the_weight(tiny):
    losses = {}
    for weight, factor in ((0.4, 0.5), (0.2, 1.0)):
        run = prepare(tiny.config("BPR", kt_weight=weight))
        with task_of(run).attached(factor=factor) as meter:
            init_seed(1, True)
            losses[weight] = run.model.calculate_loss(next(iter(run.train_data))).item()
        assert meter.means()[1] > 0
    assert losses[0.4] == pytest.approx(losses[0.2], rel=1e-6)


@pytest.mark.parametrize(("balance", "scale"), [("fixed", 1.0), ("loss_ratio", 4096.0)])
def test_the_ratio_of_gradients_is_that_of_the_two_weighted_losses(tiny, balance, scale):
    run = prepare(tiny.config("BPR", kt_weight=0.3, kt_entity="both", kt_balance=balance))
    task = task_of(run)
    state = run.train_data.generator.get_state()
    _, _, grads = one_step(run, task)
    run.train_data.generator.set_state(state)
    batch, _, model_grads = one_step(run)
    kept = {name: 0.7 * grad for name, grad in model_grads.items()}
    squares = [sum(grad.square().sum() for grad in kept.values())]
    squares.insert(0, sum((grads[name] - grad).square().sum() for name, grad in kept.items()))
    with task.attached(measure_gradients=True) as meter:
        assert meter.gradient_ratio is None
        before = {name: parameter.grad.clone() for name, parameter in run.model.named_parameters()}
        state = torch.get_rng_state()
        loss = run.model.calculate_loss(batch)
        assert torch.equal(state, torch.get_rng_state())
        after = {name: parameter.grad for name, parameter in run.model.named_parameters()}
        assert all(torch.equal(before[name], grad) for name, grad in after.items())
        (scale * loss).backward()  # as a scaler of gradients does
        run.model.calculate_loss(batch[:5]).backward()
        first = meter.gradient_ratio
    assert first == pytest.approx((squares[0] / squares[1]).sqrt().item(), rel=1e-4)
    assert meter.gradient_ratio == first  # of the first batch


def test_the_ratio_is_none_where_the_models_loss_has_no_gradient(tiny):
    run = prepare(tiny.config("BPR", kt_weight=1.0))
    task = task_of(run)
    with task.attached(measure_gradients=True) as meter:
        run.model.calculate_loss(next(iter(run.train_data))).backward()
    assert meter.gradient_ratio is None


class Scaled(TransferLoss):
    """A loss with something to learn of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.drawn = torch.nn.Linear(1, 1)

    def compute(self, hidden, target, ids):
        return (self.scale * hidden - target).square().mean() + 0.0 * self.drawn.weight.sum()


def test_a_loss_of_ones_own_draws_nothing_from_the_global_streams(tiny):
    run = prepare(tiny.config("BPR", kt_loss=f"{__name__}.Scaled"))
    before = torch.get_rng_state()
    first, second = (task_of(run).terms[0].loss.drawn.weight for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)


def test_what_a_loss_of_ones_own_learns_joins_the_optimizer(tiny):
    run = prepare(tiny.config("BPR", kt_loss=f"{__name__}.Scaled", epochs=2))
    run.fit()
    assert set(run.method("loss").task.projectors()) == {"0.loss"}
    assert run.method("loss").task.terms[0].loss.scale.item() != 1.0


def test_parts_of_a_loss_that_are_not_trained_are_not_balanced(tiny):
    """RecBole's NCLTrainer drops the last part in its warm-up."""
    run = prepare(tiny.config("BPR", kt_balance="loss_ratio", kt_weight=0.4))
    batch, own, task = next(iter(run.train_data)), run.model.calculate_loss, task_of(run)
    model_loss = own(batch).item()
    run.model.calculate_loss = lambda batch: (own(batch), 100.0 * own(batch))
    with task.attached(parts=-1) as meter:
        transfer, *kept = run.model.calculate_loss(batch)
    assert len(kept) == 2
    assert meter.means()[0] == pytest.approx(model_loss)
    assert transfer.item() == pytest.approx(0.4 * model_loss, rel=1e-5)
    with task.attached() as meter:
        run.model.calculate_loss(batch)
    assert meter.means()[0] == pytest.approx(101.0 * model_loss)
