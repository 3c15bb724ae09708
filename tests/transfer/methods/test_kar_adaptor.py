"""The hybrid-expert adaptor against its equation, written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_llmkt.transfer.methods.kar_adaptor import AdaptorSizes, HybridExpertAdaptor


def written_out(adaptor: HybridExpertAdaptor, embeddings: np.ndarray, side: str) -> np.ndarray:
    def linear(layer, values):
        return values @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()

    logits = linear(adaptor.gates[side], embeddings)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    total = 0.0
    for k, expert in enumerate([*adaptor.shared_experts, *adaptor.own_experts[side]]):
        first, second = expert[0], expert[3]
        answer = np.maximum(linear(second, np.maximum(linear(first, embeddings), 0.0)), 0.0)
        total = total + shares[:, k : k + 1] * answer
    return total


@pytest.mark.parametrize(("shared", "own"), [(2, 5), (0, 1), (1, 3)])
@pytest.mark.parametrize("side", ["user", "item"])
def test_it_is_the_papers_sum(shared, own, side):
    torch.manual_seed(0)
    adaptor = HybridExpertAdaptor(6, AdaptorSizes(width=4, shared=shared, own=own, hidden=5))
    embeddings = torch.randn(7, 6)
    expected = written_out(adaptor, embeddings.numpy(), side)
    adapted = adaptor(embeddings, side).detach().numpy()
    assert adapted.shape == (7, 4)
    np.testing.assert_allclose(adapted, expected, rtol=1e-5, atol=1e-6)


def test_by_hand():
    adaptor = HybridExpertAdaptor(1, AdaptorSizes(width=1, shared=1, own=1, hidden=1))
    with torch.no_grad():
        for parameter in adaptor.parameters():
            parameter.zero_()
        adaptor.shared_experts[0][0].weight.fill_(2.0)  # shared expert: 3 * (2 r)
        adaptor.shared_experts[0][3].weight.fill_(3.0)
        adaptor.own_experts["item"][0][3].bias.fill_(4.0)  # the items' own: 4
        adaptor.gates["item"].bias.copy_(torch.tensor([0.0, np.log(3.0)]))  # 1/4, 3/4
    ones = torch.ones(1, 1)
    assert adaptor(ones, "item").item() == pytest.approx(0.25 * 6 + 0.75 * 4)
    assert adaptor(ones, "user").item() == pytest.approx(0.5 * 6)
    assert adaptor(-ones, "user").item() == 0.0


def test_dropout_only_in_training():
    torch.manual_seed(0)
    sizes = AdaptorSizes(width=4, hidden=8, dropout=0.5)
    adaptor, embeddings = HybridExpertAdaptor(6, sizes), torch.randn(3, 6)
    assert not torch.equal(adaptor(embeddings, "user"), adaptor(embeddings, "user"))
    adaptor.eval()
    assert torch.equal(adaptor(embeddings, "user"), adaptor(embeddings, "user"))
