"""A server's address and key: read, and never shown."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from recbole_llmkt.profiles.service import OptionalParameters, Service, stops_for_good
from recbole_llmkt.utils.exceptions import ConfigError, ProfileError

SETTINGS = {"profile_api_base": None, "profile_api_key_env": "TEST_KEY_OF_LLMKT"}


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("TEST_KEY_OF_LLMKT", " sk-0123456789 ")


def test_the_credentials_of_an_address_become_a_header():
    address = "https://me:p%40ss@host:8000/v1?version=2024&empty="
    service = Service.of({**SETTINGS, "profile_api_base": address})
    assert service.address == "https://host:8000/v1"
    assert service.headers == {"Authorization": "Basic bWU6cEBzcw=="}  # me:p@ss
    assert service.parameters == {"version": "2024", "empty": ""}
    assert "ss" not in repr(service).replace("address", "")


def test_a_server_of_ones_own_needs_no_key_and_openais_does(monkeypatch):
    monkeypatch.delenv("TEST_KEY_OF_LLMKT")
    own = Service.of({**SETTINGS, "profile_api_base": "http://localhost/v1"})
    assert own.key == "none"
    with pytest.raises(ConfigError, match="TEST_KEY_OF_LLMKT holds no key"):
        Service.of(SETTINGS)


@pytest.mark.parametrize("key", ["sk-1\nX-Header: 2", "sk-é", "\udcff"])
def test_what_no_header_can_carry_is_no_key(monkeypatch, key):
    monkeypatch.setenv("TEST_KEY_OF_LLMKT", key)
    with pytest.raises(ConfigError, match="TEST_KEY_OF_LLMKT holds characters that no key has"):
        Service.of(SETTINGS)


def test_a_name_that_no_variable_can_have_names_no_key():
    with pytest.raises(ConfigError, match="holds no key"):
        Service.of({**SETTINGS, "profile_api_key_env": "\ud800"})
    with pytest.raises(ConfigError, match="no text"):
        Service.of({**SETTINGS, "profile_api_base": "http://\ud800:x@host/v1"})


def test_errors_are_short_one_line_and_without_secrets():
    service = Service.of({**SETTINGS, "profile_api_base": "http://me:secret@host/v1"})
    message = service.clean(ValueError("key sk-0123456789,\n password secret; " + "x" * 900))
    assert message.startswith("key ***, password ***; xxx")
    assert len(message) == 300
    assert service.clean(ValueError()) == "(ValueError)"
    try:
        json.loads("<html>busy</html>")
    except json.JSONDecodeError as error:
        assert service.clean(error) == "<html>busy</html>"


@pytest.mark.parametrize(
    ("status", "text", "fix"),
    [
        (402, "", "the account has no credit left"),
        (429, '{"code": "insufficient_quota"}', "the account has no credit left"),
        (401, "Incorrect API key provided", "set the environment variable"),
        (429, "You exceeded your current quota, 3 requests per minute", None),
        (500, "internal error", None),
        (307, "", "it redirects to 'http://elsewhere/v1', and redirects are not followed"),
    ],
)
def test_which_errors_no_second_request_changes(status, text, fix):
    headers = {"Location": "http://me:secret@elsewhere/v1"}
    answer = stops_for_good(SimpleNamespace(status_code=status, text=text, headers=headers))
    assert answer is None if fix is None else answer.startswith(fix)


def test_a_refused_limit_goes_under_its_other_name_once():
    parameters = OptionalParameters({"max_completion_tokens": 50, "seed": 1})
    sent = parameters.values
    refusal = "Unsupported parameter: 'max_completion_tokens'"
    assert parameters.refused(sent, None, refusal) == "max_completion_tokens"
    assert parameters.values == {"seed": 1, "max_tokens": 50}
    # The answer to a request that was sent before changes nothing more.
    assert parameters.refused(sent, None, refusal) == "max_completion_tokens"
    assert parameters.refused(parameters.values, "seed", "unknown field") == "seed"
    assert parameters.values == {"max_tokens": 50}
    assert parameters.refused(parameters.values, None, "the seed is sown") is None
    with pytest.raises(ProfileError, match="takes neither max_completion_tokens nor max_tokens"):
        parameters.refused(parameters.values, "max_tokens", "not supported")
