"""Answers of servers: each odd one costs one profile, or ends in an error of our own."""

from __future__ import annotations

import asyncio
import importlib
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recbole_llmkt.profiles.encoders.openai import OpenAIEncoder
from recbole_llmkt.profiles.generation.generators import Answer, get_generator
from recbole_llmkt.profiles.service import Service
from recbole_llmkt.utils.exceptions import LLMKTError
from recbole_llmkt.utils.text import one_line
from tests.fuzz.cases import ODD, as_json, changed, damaged, survives
from tests.profiles.generation.helpers import SETTINGS, request
from tests.profiles.test_responses import GOOD, server

openai = pytest.importorskip("openai")
# Newer releases of openai stand on httpx2.
httpx = importlib.import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])

COMPLETION = {
    "id": "c1",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Likes it."},
        }
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 3},
}
EMBEDDINGS = {
    "data": [{"index": 0, "embedding": [0.1, 0.2]}, {"index": 1, "embedding": [0.3, 0.4]}]
}
ERROR = {"error": {"message": "no", "type": "t", "code": "c", "param": "max_tokens"}}
STATUS = st.sampled_from([200, 200, 200, 200, 400, 401, 402, 404, 422, 500])
TYPES = st.sampled_from(
    ["application/json", "application/json", "text/html", "text/event-stream", ""]
)


def bodies(values):
    return st.one_of(
        changed(values).map(as_json),
        damaged(as_json(values)),
        changed(ERROR).map(as_json),
        ODD.map(as_json),
        st.sampled_from([b"", b"null", b"[]", b"<html>", b"\xff\xfe", b"[" * 100_000, b"1e400"]),
    )


def transport(status, kind, body):
    headers = {"content-type": kind} if kind else {}
    return httpx.MockTransport(lambda _: httpx.Response(status, headers=headers, content=body))


def settings(**keys):
    return {
        **SETTINGS,
        "profile_generator": "openai",
        "profile_api_base": "http://localhost:9/v1",
        "profile_retries": 0,
        "profile_concurrency": 1,
        **keys,
    }


@given(STATUS, TYPES, bodies(COMPLETION))
@example(200, "application/json", b"[" * 100_000)
@example(200, "application/json", as_json({**COMPLETION, "usage": [1]}))
@example(
    200,
    "application/json",
    b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 1e400}}',
)
def test_chat_completions(monkeypatch, status, kind, body):
    generator = get_generator(settings())
    client = httpx.AsyncClient(transport=transport(status, kind, body))
    monkeypatch.setattr(type(generator), "_http_client", lambda self: client)
    answers = survives(lambda: list(generator.answers([request("u1"), request("u2")])))
    if isinstance(answers, LLMKTError):
        return
    assert {answer.id for answer in answers} == {"u1", "u2"}
    for answer in answers:
        assert isinstance(answer, Answer) and isinstance(answer.text, str)
        assert 0 <= answer.tokens_in < 2**63 and 0 <= answer.tokens_out < 2**63
        assert answer.error is None or answer.error == one_line(answer.error)
        json.dumps(answer.text)


@given(STATUS, TYPES, bodies(EMBEDDINGS))
@example(200, "application/json", as_json({"data": [{"index": 0, "embedding": []}] * 2}))
def test_embeddings(status, kind, body):
    encoder = OpenAIEncoder("openai:m", Service("http://localhost:9/v1", "none"), settings())
    client = httpx.Client(transport=transport(status, kind, body))
    encoder._client = openai.OpenAI(
        base_url="http://localhost:9/v1", api_key="none", http_client=client, max_retries=0
    )
    vectors = survives(encoder.encode_batch, ["a", "b"])
    if not isinstance(vectors, LLMKTError):
        assert vectors.shape[0] == 2 and vectors.dtype.name == "float32"


@given(damaged(GOOD))
@example(GOOD.replace(b"HTTP/1.1 200", b"HTTP/1.1 x"))
def test_bytes_on_the_wire(data):
    with server(data) as (address, _):
        keys = settings(profile_api_base=address, profile_timeout=0.2)
        answers = survives(lambda: list(get_generator(keys).answers([request("u1")])))
    assert isinstance(answers, LLMKTError) or [answer.id for answer in answers] == ["u1"]


@given(ODD | st.text(), ODD | st.text())
@example("http://[", "x")
@example("http://a:b@c?d=e", "\x00")
def test_addresses(monkeypatch, address, variable):
    config = settings(profile_api_base=str(address), profile_api_key_env=str(variable))
    survives(Service.of, config)


def test_the_answers_that_the_cases_start_from_work(monkeypatch):
    generator = get_generator(settings())
    client = httpx.AsyncClient(transport=transport(200, "application/json", as_json(COMPLETION)))
    monkeypatch.setattr(type(generator), "_http_client", lambda self: client)
    (answer,) = generator.answers([request("u1")])
    assert answer.text == "Likes it." and answer.tokens_in == 5
    asyncio.run(client.aclose())
