"""The learned map of profiles, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from recbole_llmkt.profiles.loading import ProfileVectors
from recbole_llmkt.transfer.inspection.tables import EntityTable
from recbole_llmkt.transfer.methods.folded import FoldedParameter, join_optimizers
from recbole_llmkt.transfer.methods.linear_map import LinearMap, map_rate, profile_features
from recbole_llmkt.utils.exceptions import ConfigError, ProfileError

CONFIG = {
    "kt_hybrid_scale": 2.0,
    "kt_hybrid_width": None,
    "kt_control": "none",
    "kt_seed": 1,
    "seed": 1,
}


def profiles(*vectors, n_entities=5):
    ids = np.arange(1, len(vectors) + 1)
    return ProfileVectors("item", ids, np.float32(vectors), n_entities, "", "")


def added(part):
    rows = torch.zeros(3, 1)
    part.add_to(rows, torch.ones(3, 1))
    return rows


def test_a_map_starts_at_zero_and_learns_from_rows_by_their_features():
    features = torch.tensor([[0.0, 0.0], [1.0, 2.0], [0.0, 1.0]])
    part = LinearMap(EntityTable("t", "item", 3), None, features, width=1, rate=0.25)
    assert added(part).tolist() == [[0], [0], [0]]
    part.take_gradient(torch.tensor([[9.0], [1.0], [3.0]]))
    assert part.weights.grad.tolist() == [[1.0], [5.0]]  # 1 x 1; 2 x 1 + 1 x 3
    with torch.no_grad():
        part.weights.copy_(torch.tensor([[3.0], [4.0]]))
    assert added(part).tolist() == [[0], [11], [4]]
    rows = torch.ones(2, 1)
    part.add_to(rows, torch.ones(3, 1), torch.tensor([2, 1]))
    assert rows.tolist() == [[5], [12]]
    part.take_gradient(torch.tensor([[9.0], [1.0], [3.0]]), torch.tensor([2]))
    assert part.weights.grad.tolist() == [[0.0], [3.0]]
    assert part.summary() == {"features": 2, "map_norm": 5.0}
    assert part.rate() == 0.25


def test_features_are_centred_and_scaled_on_the_trained_alone():
    # Of the trained ids 1 and 2 the mean is (2, 0), and their centred length is 1.
    features = profile_features(CONFIG, profiles([1, 0], [3, 0], [2, 5]), np.array([1, 2, 4]))
    assert features.tolist() == [[0, 0], [-2, 0], [2, 0], [0, 10], [0, 0]]


def test_a_width_keeps_the_largest_variance_and_the_scale():
    vectors = profiles([5, 1], [-5, 1], [5, -1], [-5, -1])
    features = profile_features({**CONFIG, "kt_hybrid_width": 1}, vectors, np.arange(1, 5))
    assert features.shape == (5, 1)
    torch.testing.assert_close(features[1:].abs(), torch.full((4, 1), 2.0))
    assert (features[1] * features[2]).item() < 0 < (features[1] * features[3]).item()


def test_nothing_to_learn_from_is_an_error():
    with pytest.raises(ProfileError, match="None of the 2 items with a profile occurs"):
        profile_features(CONFIG, profiles([1, 0], [0, 1]), np.array([3, 4]))
    with pytest.raises(ConfigError, match="item profile embeddings are all the same"):
        profile_features(CONFIG, profiles([1, 0], [1, 0]), np.array([1, 2]))


def test_the_rate_moves_rows_as_far_as_their_own_numbers_whatever_the_number_of_features():
    rng = np.random.default_rng(0)
    for width, scale in ((8, 1.0), (64, 1.0), (64, 0.3)):
        config = {**CONFIG, "kt_hybrid_scale": scale}
        vectors = profiles(*rng.normal(size=(4, width)))
        features = profile_features(config, vectors, np.arange(1, 5))
        # Adam's first step moves W by the rate everywhere; a row moves at most so far:
        farthest = map_rate(features, scale) * features[1:].abs().sum(dim=1)
        assert farthest.mean().item() == pytest.approx(scale)


def test_features_that_are_all_zero_have_a_rate():
    assert map_rate(torch.zeros(3, 2), 0.0) == 1.0


def test_a_map_has_a_weight_decay_of_its_own():
    features = torch.tensor([[0.0], [1.0]])
    table = nn.Parameter(torch.zeros(2, 1))
    part = LinearMap(EntityTable("t", "item", 2), None, features, width=1, weight_decay=0.5)
    optimizer = torch.optim.SGD([table], lr=1.0, weight_decay=0.1)
    with join_optimizers([FoldedParameter("t", table, [part])], [optimizer]):
        decays = [group["weight_decay"] for group in optimizer.param_groups]
    assert decays == [0.1, 0.5]
