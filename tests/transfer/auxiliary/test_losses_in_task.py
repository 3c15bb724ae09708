"""Losses that look beyond their own rows: all profiles, ranked lists, masked entities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_llmkt.utils.exceptions import ConfigError, LayerError
from tests.helpers import one_step, prepare, task_of


def contrast(z, p, among, temperature=0.2):
    """Compute InfoNCE with numpy."""
    z, p, among = (table / np.linalg.norm(table, axis=1, keepdims=True) for table in (z, p, among))
    powers = np.exp(z @ among.T / temperature)
    return float(np.mean(np.log(powers.sum(1)) - (z * p).sum(1) / temperature))


def test_infonce_tells_users_from_all_profiles_and_items_from_the_batchs(tiny):
    run = prepare(tiny.config("BPR", kt_loss="infonce", kt_entity="both", kt_weight=0.5))
    task = task_of(run)
    state = run.train_data.generator.get_state()
    batch, loss, _ = one_step(run, task)
    run.train_data.generator.set_state(state)
    _, model_loss, _ = one_step(run)
    user_table, item_table = (term.table.values.numpy() for term in task.terms)
    users = np.unique(batch["user_id"])
    items = np.unique(torch.cat([batch["item_id"], batch["neg_item_id"]]))
    states = run.model.user_embedding.weight.detach().numpy()
    by_user = contrast(states[users], user_table[users], user_table[1:])
    states = run.model.item_embedding.weight.detach().numpy()
    by_item = contrast(states[items], item_table[items], item_table[items])
    total = 0.5 * model_loss.item() + 0.25 * by_user + 0.25 * by_item
    assert loss.item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("loss", ["gram", "softrank"])
def test_structure_needs_neither_a_projector_nor_a_transform(tiny, loss):
    run = prepare(tiny.config("BPR", kt_loss=loss, kt_transform="none", kt_entity="both"))
    task = task_of(run)
    assert [term.table.values.shape[1] for term in task.terms] == [24, 24]
    assert [term.width for term in task.terms] == [8, 8]
    _, value, grads = one_step(run, task)
    assert torch.isfinite(value)
    assert all(grad.abs().sum() > 0 for grad in grads.values())


def test_softrank_of_one_step_by_hand(tiny):
    run = prepare(tiny.config("BPR", kt_loss="softrank", kt_transform="none", kt_weight=0.5))
    task = task_of(run)
    (term,) = task.terms
    assert str(term.partner.layer) == "item_embedding"
    state = run.train_data.generator.get_state()
    batch, loss, _ = one_step(run, task)
    run.train_data.generator.set_state(state)
    _, model_loss, _ = one_step(run)
    users = np.unique(batch["user_id"])
    items = np.unique(torch.cat([batch["item_id"], batch["neg_item_id"]]))
    profiles = [vectors.numpy() for vectors in (term.table.values, term.partner.table.values)]
    p, q = (
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12) for vectors in profiles
    )
    z = run.model.user_embedding.weight.detach().numpy()[users]
    wanted = torch.softmax(torch.from_numpy(p[users] @ q[items].T) / 0.2, 1)
    scores = torch.from_numpy(z @ run.model.item_embedding.weight.detach().numpy()[items].T)
    crossed = -(wanted * torch.log_softmax(scores / 0.2, 1)).sum(1)
    certainty = np.log(len(items)) + (wanted * wanted.log()).sum(1)
    rank = (certainty * crossed).sum() / certainty.sum()
    assert loss.item() == pytest.approx(0.5 * model_loss.item() + 0.5 * rank.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({"kt_loss": "softrank"}, ConfigError, "maps the two differently. Use kt_transform: none"),
        (
            {"kt_projector": "profile_mlp"},
            ConfigError,
            "all of them to one point. Use kt_projector",
        ),
        (
            {"kt_loss": "generative"},
            LayerError,
            "depends on the user's embedding alone",
        ),
        ({"kt_loss": "rmse", "kt_transform": "none"}, ConfigError, "Use kt_projector: linear"),
    ],
    ids=str,
)
def test_losses_that_cannot_be_had(tiny, keys, error, message):
    run = prepare(tiny.config("BPR", **keys))
    with pytest.raises(error, match=message):
        task_of(run)


def test_models_without_what_a_loss_needs(tiny):
    keys = {"kt_transform": "none", "latent_dimension": 8, "mlp_hidden_size": [16]}
    run = prepare(tiny.config("MultiVAE", kt_loss="softrank", **keys))
    with pytest.raises(LayerError, match=r"4 wide and 'decoder.2.weight' 16. Set kt_user_layer"):
        task_of(run)
    keys["kt_projector"] = "linear"
    run = prepare(tiny.config("MultiVAE", kt_loss="generative", **keys))
    with pytest.raises(LayerError, match=r"no table of them behind 'forward\(\)\[1\]'"):
        task_of(run)


def test_multivae_ranks_by_the_states_that_it_scores_with(tiny):
    keys = {"kt_transform": "none", "latent_dimension": 8, "mlp_hidden_size": [16]}
    layer = {"kt_layer": "decoder.2@input", "kt_loss": "softrank"}
    run = prepare(tiny.config("MultiVAE", **keys, **layer))
    assert task_of(run).terms[0].width == 16


def test_generative_hides_a_share_of_the_batch_and_compares_only_them(tiny):
    """LightGCN with tokens in place of embeddings, the graph and the contrast written out."""
    keys = {"kt_loss": "generative", "kt_mask_ratio": 0.4, "n_layers": 2, "kt_weight": 0.5}
    run = prepare(tiny.config("LightGCN", **keys))
    task = task_of(run)
    (term,) = task.terms
    with torch.no_grad():
        term.mask.tokens[0].copy_(torch.linspace(-1, 1, 8))
    state = run.train_data.generator.get_state()
    batch, loss, grads = one_step(run, task)
    masked = term.choose(batch, (0, 0, 0))
    users = torch.unique(batch["user_id"])
    assert len(masked) == int(0.4 * len(users)) and set(masked.tolist()) <= set(users.tolist())

    own = run.model.user_embedding.weight.detach().clone()
    with torch.no_grad():
        run.model.user_embedding.weight[masked] = term.mask.tokens[0]
    run.train_data.generator.set_state(state)
    _, model_loss, _ = one_step(run)
    states = run.model.forward()[0].detach().numpy()
    ids = masked.sort().values.numpy()
    target = term.table.values.numpy()[ids]
    expected = 0.5 * model_loss.item() + 0.5 * contrast(states[ids], target, target)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert not grads["user_embedding.weight"][masked].any()
    assert term.mask.tokens[0].grad.abs().sum() > 0
    with torch.no_grad():
        run.model.user_embedding.weight.copy_(own)


def test_masks_move_with_the_batch_and_draw_nothing(tiny):
    run = prepare(tiny.config("LightGCN", kt_loss="generative", kt_mask_ratio=0.4))
    task = task_of(run)
    batch = next(iter(run.train_data))
    state = torch.get_rng_state(), np.random.get_state()[2]
    with task.attached(3) as meter:
        first = run.model.calculate_loss(batch).item()
        second = run.model.calculate_loss(batch).item()
    assert (torch.get_rng_state().equal(state[0]), np.random.get_state()[2]) == (True, state[1])
    assert meter.batches == 2 and first != second and meter.gradient_ratio is None
    with task.attached(3):
        assert run.model.calculate_loss(batch).item() == first
        assert run.model.calculate_loss(batch).item() == second


def test_the_profiles_side_may_be_projected_under_a_contrast(tiny):
    keys = {"kt_loss": "infonce", "kt_projector": "profile_mlp", "kt_transform": "none"}
    run = prepare(tiny.config("BPR", kt_entity="both", **keys))
    task = task_of(run)
    one_step(run, task)
    for term in task.terms:
        assert [tuple(module.weight.shape) for module in term.projector[::2]] == [(16, 24), (8, 16)]
        assert all(parameter.grad.abs().sum() > 0 for parameter in term.projector.parameters())
