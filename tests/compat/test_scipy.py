from __future__ import annotations

import numpy as np
from scipy.sparse import dok_matrix

from recbole_llmkt.compat import scipy_matrices


def test_graph_models_fill_their_matrices():
    data = {(0, 2): 1.0, (2, 0): 1.0, (1, 1): 2.0}
    with scipy_matrices():
        matrix = dok_matrix((3, 3), dtype=np.float32)
        matrix._update(data)
    expected = np.zeros((3, 3), dtype=np.float32)
    for place, value in data.items():
        expected[place] = value
    np.testing.assert_array_equal(matrix.tocoo().toarray(), expected)
    np.testing.assert_array_equal((matrix > 0).sum(axis=1), [[1], [1], [1]])
