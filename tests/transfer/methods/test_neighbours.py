"""Tables as hybrids of their own rows and the mean of their neighbours by profile."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from recbole_llmkt.profiles.loading import ProfileVectors
from recbole_llmkt.quick_start import load_data_and_model
from recbole_llmkt.transfer.inspection.tables import EntityTable
from recbole_llmkt.transfer.methods import neighbours as module
from recbole_llmkt.transfer.methods.folded import FoldedParameter
from recbole_llmkt.transfer.methods.neighbours import (
    NeighbourMean,
    Neighbours,
    nearest_neighbours,
)
from recbole_llmkt.utils.exceptions import DataError, ProfileError
from recbole_llmkt.utils.randomness import get_random_state
from tests.helpers import prepare, same_parameters
from tests.transfer.methods.test_initialize import MODELS

KEYS = {"kt_hybrid": "neighbours", "kt_entity": "both", "kt_weight": 0, "kt_neighbours": 3}
SETTINGS = {"kt_neighbours": 2, "kt_control": "none", "kt_seed": 1, "show_progress": False}
CPU = torch.device("cpu")


def profile_vectors(angles, ids=None, n_entities=None):
    """Return profiles at the given angles in degrees, of ids 1, 2, ... by default."""
    radians = np.deg2rad(np.array(angles, dtype=np.float32))
    vectors = np.stack([np.cos(radians), np.sin(radians)], axis=1)
    ids = np.arange(1, len(angles) + 1) if ids is None else np.array(ids)
    return ProfileVectors("item", ids, vectors, n_entities or int(ids.max()) + 1, "", "")


def test_neighbours_are_the_nearest_by_angle_and_never_oneself():
    profiles = profile_vectors([0, 10, 25, 90])
    neighbours = nearest_neighbours(SETTINGS, profiles, np.array([1, 2, 3, 4]), CPU)
    assert neighbours.tolist() == [[0, 0], [2, 3], [1, 3], [2, 1], [3, 2]]


def test_only_the_trained_are_neighbours_and_others_have_some():
    """Item 2 is nobody's neighbour, item 5 has no profile."""
    profiles = profile_vectors([0, 10, 25, 90], n_entities=6)
    neighbours = nearest_neighbours(SETTINGS, profiles, np.array([1, 3, 4, 5]), CPU)
    assert neighbours.tolist() == [[0, 0], [3, 4], [1, 3], [1, 4], [3, 1], [0, 0]]


def test_fewer_than_k_are_taken_as_they_are():
    profiles = profile_vectors([0, 10, 25])
    neighbours = nearest_neighbours(SETTINGS, profiles, np.array([1, 2]), CPU)
    assert neighbours.tolist() == [[0, 0], [2, 0], [1, 0], [2, 1]]
    with pytest.raises(ProfileError, match="two or more"):
        nearest_neighbours(SETTINGS, profiles, np.array([1]), CPU)


def test_blocks_make_no_difference(monkeypatch):
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((50, 8)).astype(np.float32)
    profiles = ProfileVectors("item", np.arange(1, 51), vectors, 51, "", "")
    trained = rng.permutation(np.arange(1, 51))[:40]
    whole = nearest_neighbours(SETTINGS, profiles, trained, CPU)
    monkeypatch.setattr(module, "_BLOCK", 120)  # three rows of 40
    assert torch.equal(nearest_neighbours(SETTINGS, profiles, trained, CPU), whole)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -2)
    similarity[:, np.setdiff1d(np.arange(50), trained - 1)] = -2
    expected = np.argsort(-similarity, axis=1)[:, :2] + 1
    assert whole[1:].tolist() == expected.tolist()


@pytest.mark.parametrize("control", ["shuffled", "random"])
def test_controls_find_other_neighbours(control):
    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((50, 8)).astype(np.float32)
    profiles = ProfileVectors("item", np.arange(1, 51), vectors, 51, "", "")
    true, broken = (
        nearest_neighbours({**SETTINGS, "kt_control": name}, profiles, profiles.ids, CPU)
        for name in ("none", control)
    )
    assert (true == broken).float()[1:].mean() < 0.3


@pytest.mark.parametrize("axis", [0, 1])
def test_values_and_gradients_of_four_rows_by_hand(axis):
    """E = (I + a S) R and dR = (I + a S)' dE; row 0 is padding, row 4 has one neighbour."""
    neighbours = torch.tensor([[0, 0], [2, 3], [1, 3], [1, 2], [1, 0]])
    s = torch.tensor(
        [
            [0, 0, 0, 0, 0],
            [0, 0, 0.5, 0.5, 0],
            [0, 0.5, 0, 0.5, 0],
            [0, 0.5, 0.5, 0, 0],
            [0, 1.0, 0, 0, 0],
        ]
    )
    own = torch.tensor([[9.0, 9.0], [1.0, 2.0], [3.0, -4.0], [5.0, 6.0], [0.0, 8.0]])
    parameter = nn.Parameter(own.T.clone() if axis else own.clone())
    table = EntityTable("table", "item", 5, axis)
    part = Neighbours(table, profile_vectors([0, 1, 2, 3]), NeighbourMean(neighbours, own), 0.5)
    folded = FoldedParameter("table", parameter, [part])
    folded.write()
    expected = [[9.0, 9.0], [3.0, 2.5], [4.5, -2.0], [6.0, 5.5], [0.5, 9.0]]
    held = parameter.detach()
    assert (held.T if axis else held).tolist() == expected
    gradient = torch.tensor([[1.0, 0.0], [2.0, 4.0], [0.0, -4.0], [8.0, 0.0], [4.0, 2.0]])
    parameter.grad = gradient.T.clone() if axis else gradient.clone()
    folded.take_gradient()
    by_hand = (torch.eye(5) + 0.5 * s).T @ gradient
    assert by_hand.tolist() == [[1.0, 0.0], [6.0, 4.0], [2.5, -3.0], [8.5, 0.0], [4.0, 2.0]]
    taken = folded.own.grad
    assert torch.equal(taken.T if axis else taken, by_hand)
    assert part.summary() == {"neighbours": 1.75, "rows": 4, "share": 0.5}


@pytest.mark.parametrize("touched", [1, 3, 30], ids=["one", "few", "all"])
def test_gradients_of_few_rows_and_of_all_are_those_of_the_matrix(touched):
    rng = torch.Generator().manual_seed(7)
    neighbours = torch.randint(0, 30, (30, 4), generator=rng)
    mean = NeighbourMean(neighbours, torch.zeros(0))
    s = torch.zeros(30, 30)
    for row, links in enumerate(neighbours.tolist()):
        for link in filter(None, links):
            s[row, link] += 1 / sum(map(bool, links))
    gradient = torch.zeros(30, 2)
    gradient[-touched:] = torch.randn(touched, 2, generator=rng)
    by_hand = (torch.eye(30) + 0.5 * s).T @ gradient
    part = Neighbours(EntityTable("table", "item", 30), None, mean, 0.5)
    with mock.patch.object(NeighbourMean, "transposed", wraps=mean.transposed) as whole:
        part.take_gradient(gradient)
    torch.testing.assert_close(gradient, by_hand)
    assert whole.called is (touched > 3)


def sum_of(folded):
    """Write out R + a S R of one parameter."""
    rows = folded.own.detach().clone()
    for part in folded.parts:
        view = part.table.rows({folded.name: rows})
        links = part.mean.neighbours
        own = torch.cat([torch.zeros_like(view[:1]), view[1:]])  # id 0 is nobody's neighbour
        view += part.share * own[links].sum(1) / (links > 0).sum(1, keepdim=True).clamp_min(1)
    return rows


@pytest.mark.parametrize("model", ["BPR", "LightGCN", "FM", "MultiVAE", "SASRec"])
def test_models_train_and_end_as_the_sum(tiny, model):
    settings, *_ = MODELS.get(model, ({},))
    run = prepare(tiny.config(model, **KEYS, **settings, epochs=2))
    before = run.model.state_dict().keys()
    run.fit()
    assert run.model.state_dict().keys() == before
    for folded in run.method("hybrid").parameters:
        torch.testing.assert_close(folded.parameter.detach(), sum_of(folded))
        assert not torch.equal(folded.parameter, folded.own)
    assert all(table["neighbours"] == 3 for table in run.trainer.transfer_summary()["hybrid"])


def test_a_share_of_zero_is_stock_and_draws_nothing(tiny):
    stock = prepare(tiny.config("BPR", kt_enabled=False))
    stock.fit()
    after = get_random_state()
    run = prepare(tiny.config("BPR", **KEYS, kt_hybrid_scale=0.0))
    run.fit()
    assert same_parameters(run.model, stock.model)
    assert torch.equal(get_random_state()["torch"], after["torch"])
    other = prepare(tiny.config("BPR", **KEYS))
    other.fit()
    assert not same_parameters(other.model, stock.model)


def test_a_resumed_run_equals_a_whole_one_and_leaves_a_stock_checkpoint(tiny, tmp_path):
    keys = {**KEYS, "epochs": 4, "eval_step": 2, "checkpoint_dir": str(tmp_path)}
    whole = prepare(tiny.config("BPR", **keys))
    whole.fit(saved=True)
    first = prepare(tiny.config("BPR", **{**keys, "epochs": 2}))
    first.fit(saved=True)
    second = prepare(tiny.config("BPR", **keys))
    second.trainer.resume_checkpoint(first.trainer.saved_model_file)
    second.fit(saved=True)
    assert same_parameters(second.model, whole.model)
    loaded = load_data_and_model(first.trainer.saved_model_file)[1]
    assert same_parameters(loaded, first.model)
    other = prepare(tiny.config("BPR", **{**keys, "kt_hybrid": "linear"}))
    other.trainer.resume_checkpoint(first.trainer.saved_model_file)
    with pytest.raises(DataError, match="kt_hybrid 'neighbours' -> 'linear'"):
        other.fit()
