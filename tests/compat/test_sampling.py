"""Negatives are RecBole's, draw by draw, and so is what its loaders read of the used items."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.sampler import Sampler
from recbole.utils import init_seed

from recbole_llmkt.compat import create_dataset, data_preparation, interactions, pandas_data
from recbole_llmkt.compat import sampling as module
from recbole_llmkt.compat.sampling import CompactSampler

PHASES = ["train", "valid", "test"]


@pytest.fixture(autouse=True, params=[0, 10_000], ids=["search", "table"])
def pairs_with_a_byte(request, monkeypatch):
    monkeypatch.setattr(module, "_TABLE", request.param)


class Part:
    """What a sampler reads of a part of the data."""

    uid_field, iid_field = "user", "item"

    def __init__(self, users, items, n_users, n_items):
        self.user_num, self.item_num = n_users, n_items
        columns = {"user": torch.tensor(users), "item": torch.tensor(items)}
        self.inter_feat = Interaction({k: v.to(torch.int64) for k, v in columns.items()})


def random_parts(n_users=50, n_items=12, sizes=(200, 60, 40)):
    rng = np.random.default_rng(0)
    return [
        Part(rng.integers(1, n_users, size), rng.integers(0, n_items - 2, size), n_users, n_items)
        for size in sizes
    ]


def both(parts, **keywords):
    phases = PHASES[: len(parts)]
    return [kind(phases, parts, **keywords) for kind in (Sampler, CompactSampler)]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
@pytest.mark.parametrize("num", [1, 3])
def test_draws_are_recboles(phase, distribution, num):
    parts = random_parts()
    users = np.random.default_rng(1).integers(0, 50, 300)
    drawn = []
    for sampler in both(parts, distribution=distribution, alpha=0.7):
        sampler = sampler.set_phase(phase)
        init_seed(3, True)
        batches = (users, np.full(40, 7), [4, 4, 9], users[:1])
        drawn.append([sampler.sample_by_user_ids(batch, None, num) for batch in batches])
        drawn[-1].append(torch.tensor(np.random.random()))
    for ours, theirs in zip(*drawn):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("sizes", [(200, 60, 40), (200, 0, 40), (0, 0, 0), (5,)])
def test_used_items_are_recboles(sizes):
    parts = random_parts(sizes=sizes)
    theirs, ours = both(parts)
    assert list(ours.used_ids) == list(theirs.used_ids)
    for phase, expected in theirs.used_ids.items():
        used = ours.used_ids[phase]
        assert len(used) == len(expected)
        assert list(used) == expected.tolist()
        assert used[np.array([3, 1, 3])] == expected[[3, 1, 3]].tolist()
        assert used[torch.tensor(9)] == used[-41] == expected[9]
        users, items = np.divmod(np.arange(50 * 12), 12)
        contained = [item in expected[user] for user, item in zip(users, items)]
        assert used.contain(users, items).tolist() == contained


def test_a_user_with_all_items_is_refused_as_by_recbole():
    parts = [Part([1] * 4, [1, 2, 3, 3], 3, 5), Part([1], [4], 3, 5)]
    with pytest.raises(ValueError, match="interacted with all items") as theirs:
        Sampler(PHASES[:2], parts)
    with pytest.raises(ValueError, match="interacted with all items") as ours:
        CompactSampler(PHASES[:2], parts)
    assert str(ours.value) == str(theirs.value)
    assert CompactSampler(PHASES[:1], parts[:1]).used_ids["train"][1] == {1, 2, 3}


@pytest.mark.parametrize("user", [50, -51])
def test_a_user_who_does_not_exist_is_refused(user):
    for sampler in both(random_parts()):
        sampler = sampler.set_phase("train")
        with pytest.raises(ValueError, match="not exist"):
            sampler.sample_by_user_ids(np.array([1, user]), None, 1)
        with pytest.raises(IndexError):
            sampler.used_ids[user]


SAMPLED = {"mode": "uni5", "split": {"RS": [0.6, 0.2, 0.2]}}
SETTINGS = {
    "full": ("BPR", {}),
    "sampled": ("BPR", {"eval_args": SAMPLED}),
    "popular": ("NeuMF", {"eval_args": {**SAMPLED, "mode": "pop5"}}),
    "no validation": ("BPR", {"eval_args": {"split": {"RS": [0.7, 0, 0.3]}}}),
    "dynamic": ("BPR", {"train_neg_sample_args": {"sample_num": 2, "distribution": "popularity"}}),
    "repeatable": ("BPR", {"repeatable": True, "eval_args": SAMPLED}),
}


def batches_of(dataset, name):
    """Return the classes of the samplers, and all that the loaders hand out in a run."""
    model, keys = SETTINGS[name]
    config = dataset.config(model, kt_enabled=False, **keys)
    init_seed(config["seed"], config["reproducibility"])
    with pandas_data():
        loaders = data_preparation(config, create_dataset(config))
    tensors = []
    for loader in loaders:
        for batch in loader:
            for part in batch if isinstance(batch, tuple) else (batch,):
                if isinstance(part, Interaction):
                    tensors += [part[name] for name in sorted(part.interaction)]
                elif isinstance(part, tuple):  # of users and items seen before, in any order
                    tensors.append(torch.stack(sorted_pairs(part)))
                elif part is not None:
                    tensors.append(part)
    return [type(loader._sampler) for loader in loaders], tensors


def sorted_pairs(pairs):
    order = np.lexsort([column.numpy() for column in pairs[::-1]])
    return [column[torch.from_numpy(order)] for column in pairs]


@pytest.mark.parametrize("name", SETTINGS)
def test_all_batches_of_a_run_are_recboles(monkeypatch, make_dataset, name):
    dataset = make_dataset(n_users=30, n_items=15, per_user=(1, 9))
    kinds, batches = batches_of(dataset, name)
    monkeypatch.setattr(interactions, "CompactSampler", Sampler)
    stock_kinds, stock_batches = batches_of(dataset, name)
    assert (kinds == stock_kinds) == (name == "repeatable")
    assert len(batches) == len(stock_batches) > 3
    for ours, theirs in zip(batches, stock_batches):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
