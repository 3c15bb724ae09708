"""How texts are split for a model with a limit; a tokenizer of words stands in for the model's."""

from __future__ import annotations

import pytest

from recbole_llmkt.profiles.encoders.sentence_transformers import SentenceTransformerEncoder


@pytest.fixture
def encoder():
    """Return an encoder that reads four tokens at once: a token for each word or ten letters."""

    def tokenizer(texts, **keywords):
        counts = [sum(-(-len(word) // 10) for word in text.split()) for text in texts]
        return {"input_ids": [[0] * count for count in counts]}

    encoder = object.__new__(SentenceTransformerEncoder)
    encoder.tokenizer = tokenizer
    encoder.limit = 4
    return encoder


def test_a_text_at_the_limit_stays_whole_and_a_longer_one_is_halved(encoder):
    assert encoder.split(["a b c d", "a b c d e", ""]) == [
        [("a b c d", 4)],
        [("a b", 2), (" c d e", 3)],
        [("", 0)],
    ]


def test_halves_are_halved_again_until_they_fit_and_nothing_is_lost(encoder):
    text = " ".join(f"w{number}" for number in range(37))
    (parts,) = encoder.split([text])
    assert "".join(part for part, _ in parts) == text
    assert sum(length for _, length in parts) == 37
    assert max(length for _, length in parts) <= 4


def test_a_word_longer_than_the_limit_is_split_between_letters(encoder):
    (parts,) = encoder.split(["x" * 60])
    assert [len(part) for part, _ in parts] == [30, 30]


def test_a_model_without_a_limit_reads_everything(encoder):
    encoder.limit = None
    assert encoder.split(["a b c d e"]) == [[("a b c d e", 5)]]
