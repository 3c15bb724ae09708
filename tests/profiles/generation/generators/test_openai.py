from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from recbole_llmkt.profiles.generation.generators import Answer, get_generator
from recbole_llmkt.profiles.service import OptionalParameters
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


def test_requests_wait_for_the_reader_of_answers_and_sleep() -> None:
    with OpenAIServer(lambda *_: Reply()) as server:
        settings = {
            **SETTINGS,
            "profile_generator": "openai",
            "profile_api_base": server.address,
            "profile_concurrency": 128,
        }
        answers = iter(get_generator(settings).answers(request(f"u{n}") for n in range(200)))
        next(answers)
        time.sleep(1.5)
        made, before = len(server.payloads), time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.15
        assert len(server.payloads) == made <= 128 + 32 + 1
        assert len(list(answers)) == 199


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
        Reply(finish="MAX_TOKENS"),
        Reply(finish="SAFETY"),
        Reply(finish="tool_calls"),
        Reply(finish="abort"),
        Reply(finish="incomplete"),
        Reply(finish=["length"]),  # type: ignore[arg-type]
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
        (Reply(raw=b"<html>busy</html>"), "no chat completion|unreadable"),
        (Reply(finish="length"), "profile_max_tokens"),
        (Reply(text="I cannot help."), "refusal"),
        (Reply(status=400, text="prompt too long"), "prompt too long"),
        (Reply(status=500, headers=QUICKLY, text="oh no"), "oh no"),
        (Reply(status=429, headers=QUICKLY, text="slow down"), "slow down"),
        (Reply(status=400, raw=b"teapot"), "teapot"),
        (Reply(status=400, raw=b'{"error": "no seed here"}'), "no seed here"),
        (Reply(finish="abort"), "ended it early .*'abort'"),
        (Reply(finish="max_output_tokens"), "profile_max_tokens"),
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


@pytest.mark.parametrize("finish", ["STOP", "eos_token", "end_turn", "COMPLETE", "", None])
def test_other_names_of_a_complete_answer(finish: Any) -> None:
    with OpenAIServer(lambda *_: Reply(finish=finish)) as server:
        assert _ask(server)["u1"].text == TEXT


@pytest.mark.parametrize("status", [401, 403, 404])
def test_refused_key_or_model_stops_the_run_at_once(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    reply = Reply(status=status, text=f"no: {KEY}")
    with OpenAIServer(lambda *_: reply) as server, pytest.raises(ProfileError) as caught:
        _ask(server, map("u{}".format, range(100)))
    assert SETTINGS["profile_api_key_env"] in str(caught.value)
    assert "Fix: correct them, or the path of profile_api_base" in str(caught.value)
    assert KEY not in str(caught.value) and KEY not in caplog.text
    assert len(server.payloads) <= 8


def test_the_key_never_shows_in_a_reason() -> None:
    with OpenAIServer(lambda *_: Reply(status=400, text="x" * 280 + f" bad key {KEY}")) as server:
        answers = _ask(server)
    assert KEY[:8] not in str(answers["u1"].error)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        "many",
        5,
        {"prompt_tokens": "11", "completion_tokens": [7]},
        {"prompt_tokens": -3, "completion_tokens": 1e400},
        {"prompt_tokens": 10**30, "completion_tokens": True},
        {"prompt_tokens": None, "completion_tokens": {"a": 1}},
        {"prompt_tokens": float("nan"), "completion_tokens": 1.5},
    ],
)
def test_usage_of_a_wrong_type_counts_nothing_and_costs_nothing(usage: Any) -> None:
    with OpenAIServer(lambda *_: Reply(usage=usage)) as server:
        answer = _ask(server)["u1"]
    assert (answer.text, answer.tokens_in, answer.tokens_out) == (TEXT, 0, 0)
    assert len(server.payloads) == 1


ODD = [
    b"null",
    b"[]",
    b"5",
    b'"text"',
    b"1e400",
    b"{}",
    b"<html>502 Bad Gateway</html>",
    b'{"choices": null}',
    b'{"choices": {}}',
    b'{"choices": [null]}',
    b'{"choices": [[]]}',
    b'{"choices": [{"message": "text"}]}',
    b'{"choices": [{"message": {"content": {"text": "x"}}}]}',
    b'{"choices": [{"message": {"content": ["x"]}}]}',
    b'{"choices": [{"message": {"content": [{"type": "text", "text": 5}]}}]}',
    b'{"choices": [{"message": {"content": 1e400}}]}',
    b'{"choices": [{"message": {"content": null, "reasoning_content": "Hm"}}]}',
    b'{"choices": [{"message": {"content": "x", "refusal": {"a": "no"}}}]}',
    b"[" * 100_000 + b"]" * 100_000,
    b'{"choices": ' + b'{"a": ' * 50_000 + b"1" + b"}" * 50_000 + b"}",
    b'{"choices": ' + b"9" * 10_000 + b"}",
    b"\xff\xfe\x00",
    b"",
]


@pytest.mark.parametrize("raw", ODD, ids=[str(number) for number in range(len(ODD))])
def test_an_odd_answer_costs_one_profile(raw: bytes) -> None:
    def decide(_: int, payload: dict[str, Any]) -> Reply:
        return Reply(raw=raw) if "u1." in payload["messages"][-1]["content"] else Reply()

    with OpenAIServer(decide) as server:
        answers = _ask(server, ["u1", "u2"])
    assert answers["u2"].text == TEXT
    assert answers["u1"].text == "" and answers["u1"].error
    assert "\n" not in answers["u1"].error and len(answers["u1"].error) < 400


def test_text_in_parts_is_put_together_without_thoughts() -> None:
    parts = [{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": TEXT}]
    with OpenAIServer(lambda *_: Reply(text=parts)) as server:
        assert _ask(server)["u1"].text == TEXT


def test_an_error_in_an_answer_that_is_none_is_told() -> None:
    raw = b'{"error": {"message": "no instance is free", "code": 503}}'
    with OpenAIServer(lambda *_: Reply(raw=raw)) as server:
        assert "no instance is free" in str(_ask(server)["u1"].error)


def _refusing(
    *refused: str, status: int = 400, words: str = "Unsupported parameter: '{}'.", **error: Any
) -> Callable[[int, dict[str, Any]], Reply]:
    def decide(_: int, payload: dict[str, Any]) -> Reply:
        name = next((parameter for parameter in refused if parameter in payload), None)
        if name is None:
            return Reply(delay=0.02)
        return Reply(status=status, text=words.format(name), error=error)

    return decide


@pytest.mark.parametrize(
    "decide",
    [
        _refusing(
            "max_tokens",
            words="Unsupported parameter: '{}' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            code="unsupported_parameter",
        ),
        _refusing("max_tokens", status=422, words="body.{}: Extra inputs are not permitted"),
        _refusing("max_tokens", words="Unrecognized request argument supplied: {}"),
    ],
)
def test_the_limit_goes_under_its_other_name_for_the_rest_of_the_run(
    decide: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with OpenAIServer(decide) as server:
        answers = _ask(server, map("u{}".format, range(40)))
    assert {answer.text for answer in answers.values()} == {TEXT}
    refused = [payload for payload in server.payloads if "max_tokens" in payload]
    assert 1 <= len(refused) <= 4, "remembered: only those that were under way at once"
    taken = [payload for payload in server.payloads if "max_completion_tokens" in payload]
    assert len(taken) == 40 and {
        taken_payload["max_completion_tokens"] for taken_payload in taken
    } == {50}
    assert caplog.text.count("refuses max_tokens") == 1


def test_a_server_that_knows_the_old_name_only() -> None:
    with OpenAIServer(_refusing("max_tokens", words="Unknown field: {}")) as server:
        generator = get_generator(
            {**SETTINGS, "profile_generator": "openai", "profile_api_base": server.address}
        )
        generator._optional = OptionalParameters({"max_completion_tokens": 50})
        server.decide = _refusing("max_completion_tokens", words="Unknown field: {}")
        (answer,) = generator.answers([request()])
    assert answer.text == TEXT and server.payloads[-1]["max_tokens"] == 50


@pytest.mark.parametrize("name", ["temperature", "seed"])
def test_what_a_server_refuses_is_left_out_and_said(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    decide = _refusing(name, words="Unsupported value: '{}' does not support 0.0.", param=name)
    with OpenAIServer(decide) as server:
        assert _ask(server)["u1"].text == TEXT
    assert f"profile_{name}: None" in caplog.text
    with OpenAIServer(decide) as server:
        _ask(server, **{f"profile_{name}": None})
    assert len(server.payloads) == 1 and name not in server.payloads[0]


def test_all_three_refusals_in_a_row() -> None:
    with OpenAIServer(_refusing("max_tokens", "temperature", "seed")) as server:
        assert _ask(server)["u1"].text == TEXT
    assert len(server.payloads) == 4


def test_a_limit_that_is_too_large_is_no_unknown_limit() -> None:
    text = "'max_tokens' is too large: 400. This model's maximum context length is 512 tokens."
    with OpenAIServer(lambda *_: Reply(status=400, text=text)) as server:
        assert "too large" in str(_ask(server)["u1"].error)
    assert all("max_tokens" in payload for payload in server.payloads)


def test_without_any_limit_nothing_is_asked() -> None:
    with (
        OpenAIServer(_refusing("max_tokens", "max_completion_tokens")) as server,
        pytest.raises(ProfileError, match="neither max_completion_tokens nor max_tokens"),
    ):
        _ask(server)
    assert len(server.payloads) == 2


@pytest.mark.parametrize(
    ("status", "error", "text", "fix"),
    [
        (429, {"code": "insufficient_quota"}, "You exceeded your current quota.", "credit"),
        (429, {"type": "insufficient_quota", "code": None}, "no", "credit"),
        (403, {"code": "insufficient_user_quota"}, "no", "credit"),
        (402, {}, "Insufficient Balance", "credit"),
        (429, {"code": "billing_hard_limit_reached"}, "no", "credit"),
        (500, {}, "insufficient credits", "credit"),
        (400, {"status": "INVALID_ARGUMENT"}, "API key not valid.", "profile_api_key_env"),
        (401, {"code": "invalid_api_key"}, "Incorrect API key provided", "profile_api_key_env"),
        (300, {}, "no", "no address of an OpenAI"),
    ],
)
def test_what_cannot_succeed_is_not_repeated(
    status: int, error: dict[str, Any], text: str, fix: str
) -> None:
    reply = Reply(status=status, text=text, error=error)
    start = time.monotonic()
    with (
        OpenAIServer(lambda *_: reply) as server,
        pytest.raises(ProfileError, match=rf"[^.]\. Fix: .*{fix}"),
    ):
        _ask(server, map("u{}".format, range(100)), profile_retries=5)
    assert len(server.payloads) <= 8 and time.monotonic() - start < 3


@pytest.mark.parametrize("address", ["localhost:8000/v1", "127.0.0.1/v1", "//host/v1", "http://"])
def test_an_address_without_a_scheme_stops_before_the_first_request(address: str) -> None:
    settings = {**SETTINGS, "profile_generator": "openai", "profile_api_base": address}
    with pytest.raises(ConfigError, match=r"profile_api_base: .*http://"):
        get_generator(settings)


def test_parameters_of_an_address_are_sent() -> None:
    with OpenAIServer(lambda *_: Reply()) as server:
        _ask(server, profile_api_base=f"{server.address}?api-version=2")
    assert server.paths == ["/v1/chat/completions?api-version=2"]


def test_user_and_password_of_an_address_are_sent_and_never_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with OpenAIServer(lambda *_: Reply()) as server:
        _ask(server, profile_api_base=f"http://me:pass%40word@{server.host}/v1")
        assert server.keys == ["Basic bWU6cGFzc0B3b3Jk"]
        server.decide = lambda *_: Reply(status=400, text="no pass@word bWU6cGFzc0B3b3Jk")
        answer = _ask(server, profile_api_base=f"http://me:pass%40word@{server.host}/v1")["u1"]
        assert "no *** ***" in str(answer.error)
        server.decide = lambda *_: Reply(status=401, text="no")
        with pytest.raises(ProfileError) as caught:
            _ask(server, profile_api_base=f"http://me:pass%40word@{server.host}/v1")
    assert server.host in str(caught.value) and "pass" not in str(caught.value)
    # httpcore's debug lines of headers are not ours; no line may name the address with them.
    assert "me:pass" not in caplog.text and "pass@word" not in caplog.text


def test_missing_key_and_missing_model_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTINGS["profile_api_key_env"])
    settings = {**SETTINGS, "profile_generator": "openai"}
    with pytest.raises(ConfigError, match=SETTINGS["profile_api_key_env"]):
        list(get_generator(settings).answers([request()]))
    with pytest.raises(ConfigError, match="profile_model"):
        get_generator({**settings, "profile_model": None})
