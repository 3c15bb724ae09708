"""The global random streams: put back, and the same for every arm."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from recbole_llmkt.utils.randomness import get_random_state, isolated_randomness, set_random_state
from tests.helpers import prepare, same_parameters


def draw() -> tuple[float, float, float, float]:
    return random.random(), np.random.rand(), np.random.randn(), torch.rand(1).item()


def seed() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)


def test_a_block_leaves_the_streams_as_they_were():
    seed()
    expected = [draw(), draw()]
    seed()
    drawn = [draw()]
    for inside in (None, 0, 2**40 + 3):
        with isolated_randomness(inside):
            draw()
    with pytest.raises(KeyError), isolated_randomness(5):
        draw()
        raise KeyError
    assert [*drawn, draw()] == expected


def test_a_seeded_block_draws_the_same_numbers():
    with isolated_randomness(7):
        first = draw()
    draw()
    with isolated_randomness(7):
        assert draw() == first
    with isolated_randomness(8):
        assert draw() != first


def test_the_state_is_plain_and_can_be_stored(tmp_path):
    seed()
    np.random.randn()  # leaves half a pair of normal numbers behind
    torch.save(get_random_state(), tmp_path / "state")
    expected = [draw() for _ in range(3)]
    seed()
    set_random_state(torch.load(tmp_path / "state", weights_only=True))
    assert [draw() for _ in range(3)] == expected


def test_the_state_of_a_machine_with_more_gpus_is_restored_as_far_as_it_goes(monkeypatch):
    given = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", given.extend)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [torch.zeros(2), torch.ones(2)])
    set_random_state(get_random_state())
    assert len(given) == 1 and torch.equal(given[0], torch.zeros(2))


ARMS = {
    "kt": {},
    "shuffled": {"kt_control": "shuffled"},
    "random": {"kt_control": "random"},
    "projector": {"kt_projector": "mlp"},
    "both": {"kt_entity": "both"},
    "pca": {"kt_transform": "pca_whiten"},
}


def record(tiny, model, **keys):
    """Train, and keep every batch, its negatives and the dropout stream."""
    sizes = {"latent_dimension": 8, "history_len": 4, "mlp_hidden_size": [8]}
    run = prepare(tiny.config(model, epochs=3, **sizes, **keys))
    seen = []
    epoch = type(run.trainer)._train_epoch
    collate = run.train_data.collate_fn

    def keeping(*arguments):
        batch = collate(*arguments)
        seen.append({name: value.clone() for name, value in batch.interaction.items()})
        return batch

    def opening(*arguments, **keywords):
        run.train_data.collate_fn = keeping
        seen.append(
            {
                "stream": torch.get_rng_state(),
                "numpy": torch.tensor(np.random.get_state()[1].astype(np.int64)),
            }
        )
        return epoch(run.trainer, *arguments, **keywords)

    run.trainer._train_epoch = opening
    run.fit()
    return run, seen


@pytest.mark.parametrize("arm", sorted(ARMS))
@pytest.mark.parametrize("model", ["NeuMF", "SimpleX", "MultiVAE"])
def test_every_arm_sees_the_batches_negatives_and_dropout_of_base(tiny, model, arm):
    base, expected = record(tiny, model, kt_enabled=False)
    other, batches = record(tiny, model, **ARMS[arm])
    assert len(batches) == len(expected) > 3
    for batch, theirs in zip(expected, batches):
        assert batch.keys() == theirs.keys()
        assert all(torch.equal(batch[name], theirs[name]) for name in batch)
    assert not same_parameters(base.model, other.model)


@pytest.mark.parametrize("keys", [{"kt_enabled": False}, {"kt_weight": 0}])
def test_off_equals_stock_recbole_bit_for_bit(tiny, keys):
    from recbole.utils import get_trainer

    run = prepare(tiny.config("NeuMF", dropout_prob=0.2, **keys))
    ours = run.fit()
    stock = prepare(tiny.config("NeuMF", dropout_prob=0.2, kt_enabled=False))
    trainer = get_trainer(stock.config["MODEL_TYPE"], "NeuMF")(stock.config, stock.model)
    theirs = trainer.fit(stock.train_data, stock.valid_data, verbose=False, saved=False)
    assert ours == theirs and same_parameters(run.model, stock.model)
    assert run.trainer.train_loss_dict == trainer.train_loss_dict
