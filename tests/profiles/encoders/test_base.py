"""What all encoders share, with a model that can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_llmkt.profiles.encoders import Encoder
from recbole_llmkt.utils.exceptions import ProfileError


class Letters(Encoder):
    """Count a and b; a text is split at '|'."""

    def __init__(self, batch_size=2):
        super().__init__("letters", batch_size)
        self.batches = []

    def split(self, texts):
        return [[(part, len(part)) for part in text.split("|")] for text in texts]

    def encode_batch(self, texts):
        self.batches.append(texts)
        return np.float32([[text.count("a"), text.count("b")] for text in texts])


def test_parts_weigh_by_their_lengths_and_rows_have_length_one():
    # (1, 0) weighs 1 and (0, 3) weighs 3: (1, 9) / sqrt(82).
    vectors = Letters().encode(["a|bbb", "ab"])
    expected = [np.array([1, 9]) / 82**0.5, np.array([1, 1]) / 2**0.5]
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)
    assert vectors.dtype == np.float32


def test_long_texts_go_first_and_rows_stay_in_the_order_of_the_texts():
    encoder = Letters(batch_size=2)
    vectors = encoder.encode(["a", "bbbb", "aa"])
    assert encoder.batches == [["bbbb", "aa"], ["a"]]
    assert vectors.tolist() == [[1, 0], [0, 1], [1, 0]]


def test_a_text_of_no_length_counts_and_a_zero_vector_stays_zero():
    assert Letters().encode(["a|", ""]).tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize(
    "table", [np.zeros((1, 2)), np.zeros(2), np.zeros((2, 0)), np.zeros((2, 2, 1))]
)
def test_other_than_one_vector_per_text_is_refused(table):
    encoder = Letters()
    encoder.encode_batch = lambda texts: table.astype(np.float32)
    with pytest.raises(ProfileError, match=r"The encoder 'letters' returned the shape \("):
        encoder.encode(["a", "b"])
