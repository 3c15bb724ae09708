from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from recbole_llmkt.profiles.generation.generators import Answer, get_generator
from recbole_llmkt.utils.exceptions import ConfigError, ProfileError
from tests.profiles.generation.helpers import SETTINGS, request
from tests.profiles.generation.openai_server import TEXT, OpenAIServer, Reply

pytest.importorskip("openai")
QUICKLY = {"Retry-After-Ms": "10"}
KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTINGS["profile_api_key_env"], KEY)


def _ask(server: OpenAIServer, tokens: Any = ("u1",), **keys: Any) -> dict[str, Answer]:
    settings = {
        **SETTINGS,
        "profile_generator": "openai",
        "profile_api_base": server.address,
        **keys,
    }
    answers = get_generator(settings).answers(request(token, history="d") for token in tokens)
    return {answer.id: answer for answer in answers}


def _first(reply: Reply) -> Callable[[int, dict[str, Any]], Reply]:
    return lambda number, payload: reply if number == 0 else Reply()


def test_answers_with_tokens_seed_and_temperature() -> None:
    with OpenAIServer(lambda *_: Reply()) as server:
        answers = _ask(server, ["u1", "u2"], profile_temperature=0.7, profile_seed=5)
    assert answers["u2"] == Answer("u2", TEXT, history="d", tokens_in=11, tokens_out=7)
    payload = server.payloads[0]
    assert payload["seed"] == 5 and payload["temperature"] == 0.7
    assert payload["max_tokens"] == 50 and payload["model"] == "m"
    assert payload["messages"][0] == {"role": "system", "content": "Be brief."}
    assert server.keys == [f"Bearer {KEY}"] * 2


def test_as_many_requests_at_once_as_asked_for() -> None:
    with OpenAIServer(lambda *_: Reply(delay=0.1)) as server:
        start = time.monotonic()
        answers = _ask(server, [f"u{n}" for n in range(24)], profile_concurrency=8)
        seconds = time.monotonic() - start
    assert len(answers) == 24 and server.most_at_once == 8
    assert seconds < 1.5, "3 rounds of 0.1 s, not 24"


def test_answers_come_while_others_are_under_way() -> None:
    def decide(_: int, payload: dict[str, Any]) -> Reply:
        return Reply(delay=0.0 if "u1." in payload["messages"][-1]["content"] else 1.5)

    with OpenAIServer(decide) as server:
        settings = {
            **SETTINGS,
            "profile_generator": "openai",
            "profile_api_base": server.address,
        }
        start = time.monotonic()
        answers = get_generator(settings).answers(map(request, ["u2", "u1"]))
        assert next(iter(answers)).id == "u1" and time.monotonic() - start < 1.2
        answers.close()  # type: ignore[attr-defined]
        assert time.monotonic() - start < 1.4, "stopping does not wait for the slow answer"


@pytest.mark.parametrize(
    "fault",
    [
        Reply(status=429, headers=QUICKLY),
        Reply(status=500, headers=QUICKLY),
        Reply(status=503, headers=QUICKLY),
        Reply(delay=1.5),
        Reply(cut=True),
    ],
    ids=["429", "500", "503", "slow", "cut"],
)
def test_the_client_tries_again(fault: Reply) -> None:
    with OpenAIServer(_first(fault)) as server:
        answers = _ask(server, profile_timeout=1)
    assert answers["u1"].text == TEXT and len(server.payloads) == 2


@pytest.mark.parametrize(
    "fault",
    [
        Reply(raw=b"<html>busy</html>"),
        Reply(raw=b'{"choices": ['),
        Reply(raw=b'{"choices": []}'),
        Reply(raw=b'{"choices": [{"message": null}]}'),
        Reply(raw=b"[1, 2]"),
        Reply(raw=b"null"),
        Reply(raw=b'{"choices": [{"message": {"content": 5}, "finish_reason": "stop"}]}'),
        Reply(text=""),
        Reply(text="I'm sorry, I can't help with that."),
        Reply(finish="length"),
        Reply(finish="content_filter"),
    ],
)
def test_unusable_answers_are_asked_for_once_more(fault: Reply) -> None:
    with OpenAIServer(_first(fault)) as server:
        answers = _ask(server)
    assert answers["u1"].text == TEXT and answers["u1"].error is None
    assert [payload["seed"] for payload in server.payloads] == [2020, 2021]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Reply(raw=b"<html>busy</html>"), "no chat completion|garbage"),
        (Reply(finish="length"), "profile_max_tokens"),
        (Reply(text="I cannot help."), "refusal"),
        (Reply(status=400, text="prompt too long"), "prompt too long"),
        (Reply(status=500, headers=QUICKLY, text="oh no"), "oh no"),
        (Reply(status=429, headers=QUICKLY, text="slow down"), "slow down"),
        (Reply(cut=True), "."),
    ],
)
def test_what_fails_for_good_has_its_reason_and_the_run_goes_on(fault: Reply, reason: str) -> None:
    def decide(_: int, payload: dict[str, Any]) -> Reply:
        return fault if "u1." in payload["messages"][-1]["content"] else Reply()

    with OpenAIServer(decide) as server:
        answers = _ask(server, ["u1", "u2"], profile_retries=1)
    assert answers["u2"].text == TEXT
    assert answers["u1"].text == "" and re.search(reason, str(answers["u1"].error))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_refused_key_or_model_stops_the_run_at_once(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    reply = Reply(status=status, text=f"no: {KEY}")
    with OpenAIServer(lambda *_: reply) as server, pytest.raises(ProfileError) as caught:
        _ask(server, map("u{}".format, range(100)))
    assert SETTINGS["profile_api_key_env"] in str(caught.value)
    assert KEY not in str(caught.value) and KEY not in caplog.text
    assert len(server.payloads) <= 8


def test_the_key_never_shows_in_a_reason() -> None:
    with OpenAIServer(lambda *_: Reply(status=400, text="x" * 280 + f" bad key {KEY}")) as server:
        answers = _ask(server)
    assert KEY[:8] not in str(answers["u1"].error)


def test_a_server_that_is_down_stops_the_run() -> None:
    with OpenAIServer(lambda *_: Reply()) as server:
        pass
    with pytest.raises(ProfileError, match=r"20 requests to .* failed.*profile_api_base"):
        _ask(server, map("u{}".format, range(100)), profile_retries=0)


def test_missing_key_and_missing_model_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTINGS["profile_api_key_env"])
    settings = {**SETTINGS, "profile_generator": "openai"}
    with pytest.raises(ConfigError, match=SETTINGS["profile_api_key_env"]):
        list(get_generator(settings).answers([request()]))
    with pytest.raises(ConfigError, match="profile_model"):
        get_generator({**settings, "profile_model": None})
