from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_llmkt.recommend.topk import top_k


@pytest.mark.parametrize("n_columns", [40, 4096, 5000, 6401])
@pytest.mark.parametrize("k", [1, 10, 40])
def test_the_result_is_that_of_a_search_of_all(n_columns, k):
    scores = torch.randn(9, n_columns, generator=torch.Generator().manual_seed(n_columns))
    scores[1, 100:] = -np.inf
    scores[2] += torch.arange(n_columns)  # the best ones at the end, in no whole block
    values, columns = top_k(scores, k)
    wanted = scores.topk(k)
    assert torch.equal(values, wanted.values)
    finite = values > -np.inf
    assert torch.equal(columns[finite], wanted.indices[finite])


def test_a_number_that_is_none_comes_first():
    scores = torch.rand(2, 5000)
    scores[1, 4321] = torch.nan
    values, columns = top_k(scores, 3)
    assert values[1, 0].isnan() and columns[1, 0] == 4321 and not values[0].isnan().any()
