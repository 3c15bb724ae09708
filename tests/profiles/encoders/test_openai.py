"""How texts are split for a server, and what is made of its answers."""

from __future__ import annotations

import pytest

from recbole_llmkt.profiles.encoders.openai import OpenAIEncoder
from recbole_llmkt.profiles.service import Service
from recbole_llmkt.utils.exceptions import ProfileError

pytest.importorskip("openai")


@pytest.fixture
def encoder():
    settings = {"profile_timeout": 1, "profile_retries": 0}
    return OpenAIEncoder("openai:my-model", Service("http://localhost:9/v1", "none"), settings)


def test_long_texts_are_split_at_blanks_and_nothing_is_lost(encoder):
    text = "word " * 2000  # 10,000 bytes
    short, parts = encoder.split(["short", text])
    assert short == [("short", 5)]
    assert "".join(part for part, _ in parts) == text
    assert len(parts) == 2
    assert parts[1][0].startswith(" word")
    assert all(length == len(part.encode()) <= 8000 for part, length in parts)


def test_a_text_without_blanks_is_split_between_characters(encoder):
    (parts,) = encoder.split(["é" * 4001])  # 8,002 bytes
    assert [length for _, length in parts] == [4000, 4002]


def answer(*vectors):
    return {"data": [{"index": place, "embedding": vector} for place, vector in vectors]}


def test_vectors_are_put_in_order_by_their_index(encoder, monkeypatch):
    bodies = []

    def post(path, cast_to, body):
        bodies.append(body)
        return answer((1, [3.0, 4]), (0, [1, 2.0]))

    monkeypatch.setattr(encoder._client, "post", post)
    assert encoder.encode_batch(["a", "b"]).tolist() == [[1, 2], [3, 4]]
    assert (bodies[0]["model"], bodies[0]["input"]) == ("my-model", ["a", "b"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (answer((0, [1.0])), "1 vectors for 2 texts"),
        (answer((0, [1.0]), (0, [1.0])), "not numbered from 0 on"),
        (answer((0, [1.0]), (True, [1.0])), "not numbered from 0 on"),
        (answer((0, [1.0]), (1, [1.0, 2.0])), "vectors of 1 and 2 numbers"),
        (answer((0, [1.0]), (1, [True])), "where a list of numbers belongs"),
        (answer((0, [1e300]), (1, [1.0])), "NaN or infinite"),
        (answer((0, [10**400]), (1, [1.0])), "too large for float32"),
        (answer((0, [1.0]), (1, [0.0])), "a vector of zeros"),
        ({"error": "no such model"}, "no list of vectors but"),
    ],
)
def test_odd_answers_are_refused(encoder, monkeypatch, body, message):
    monkeypatch.setattr(encoder._client, "post", lambda *arguments, **keywords: body)
    with pytest.raises(ProfileError, match=message):
        encoder.encode_batch(["a", "b"])
