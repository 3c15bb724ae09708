"""An OpenAI-compatible server: its address, its key, and messages without secrets."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable
from urllib.parse import parse_qsl, unquote

from recbole_llmkt.utils.exceptions import ConfigError, ProfileError
from recbole_llmkt.utils.text import (
    address_problem,
    one_line,
    split_credentials,
    without_credentials,
)
from recbole_llmkt.utils.types import Settings, SettingsLike

_LONGEST_ERROR = 300
_LONGEST_VALUE = 80
# What no second request changes: the account is empty, or the key is wrong. Not OpenAI's words
# "exceeded your current quota": others say them of a limit per minute, too.
_NO_CREDIT = re.compile(
    r"insufficient[ _-](\w+[ _-])?(quota|balance|funds|credits?)"
    r"|billing_(hard_limit_reached|not_active)|credit balance is too low",
    re.IGNORECASE,
)
_WRONG_KEY = re.compile(
    r"(invalid|incorrect|wrong|missing)[ _-]api[ _-]?key|api[ _-]?key (is )?(not valid|invalid)",
    re.IGNORECASE,
)
_PAYMENT_REQUIRED = 402


class Response(Protocol):
    """A server's response: that of httpx, in any of its versions."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        ...

    @property
    def text(self) -> str:
        """The body, if it has been read."""
        ...

    @property
    def headers(self) -> MutableMapping[str, str]:
        """The headers."""
        ...


@runtime_checkable
class StatusError(Protocol):
    """An error of the ``openai`` package about a response."""

    status_code: int
    response: Response


@dataclass(frozen=True)
class Service:
    """How an OpenAI-compatible server is reached.

    Attributes
    ----------
    address : str or None
        Its address without user, password and parameters; None is that of OpenAI.
    key : str
        Sent as a bearer token, unless the address has a user and a password.
    headers : dict of str to str
        Sent with every request: user and password of the address, for a server or a proxy that
        asks for them. In the address itself they would show in logs.
    parameters : dict of str to str
        What follows the address's ``?``: sent with every request.
    secrets : tuple of str
        What no message may show.
    """

    address: str | None
    key: str = field(repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    parameters: dict[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, settings: SettingsLike) -> Service:
        """Read ``profile_api_base`` and the key that ``profile_api_key_env`` names.

        Parameters
        ----------
        settings : mapping or recbole_llmkt.config.Config
            The ``profile_*`` keys.

        Raises
        ------
        ConfigError
            The address has no scheme or no host, or the key is missing and the server is
            OpenAI's. Your own server may need no key: it is sent ``"none"``.
        """
        variable, given = settings["profile_api_key_env"], settings["profile_api_base"]
        problem = address_problem(given) if given else None
        if problem:
            raise ConfigError(f"profile_api_base: {problem}.")
        key = _key_in(variable)
        if not key and not given:
            raise ConfigError(
                f"The environment variable {variable} holds no key for the OpenAI service: set it, "
                "or name another server with profile_api_base."
            )
        if not given:
            return cls(None, key, secrets=(key,))
        address, credentials = split_credentials(given)
        address, _, query = address.partition("?")
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        plain = unquote(credentials)
        coded = base64.b64encode(plain.encode()).decode()
        headers = {"Authorization": f"Basic {coded}"} if credentials else {}
        secrets = (key, credentials, plain, coded, plain.rpartition(":")[2], *parameters.values())
        return cls(address, key or "none", headers, parameters, secrets)

    @property
    def name(self) -> str:
        """The address, for messages."""
        return self.address or "the OpenAI service"

    def client_arguments(self, settings: SettingsLike) -> Settings:
        """Return what a client of the ``openai`` package is made with."""
        return {
            "api_key": self.key,
            "base_url": self.address,
            "default_headers": self.headers,
            "default_query": self.parameters,
            "timeout": settings["profile_timeout"],
            "max_retries": settings["profile_retries"],
        }

    def clean(self, error: object) -> str:
        """Return an error's first 300 characters, without the secrets should a server echo them.

        An error of reading JSON is told by what was there instead.
        """
        if isinstance(error, json.JSONDecodeError):
            error = error.doc or "nothing"  # what came says more than where it is no JSON
        elif isinstance(error, StatusError) and str(error) == f"Error code: {error.status_code}":
            error = f"{error} - {error.response.text}".rstrip(" -")
        text = " ".join((one_line(str(error)) or f"({type(error).__name__})").split())
        return self.hide(text)[:_LONGEST_ERROR]

    def hide(self, text: str) -> str:
        """Return a text of the server's without the secrets."""
        for secret in sorted(set(self.secrets), key=len, reverse=True):
            if len(secret) > len("none"):
                text = text.replace(secret, "***")
        return text

    def shown(self, value: object) -> str:
        """Return the start of a value in an answer, without the secrets."""
        try:
            return self.hide(repr(value))[:_LONGEST_VALUE]
        except RecursionError:
            return f"a deeply nested {type(value).__name__}"


def _key_in(variable: str) -> str:
    try:
        key = os.environ.get(variable, "").strip()
    except UnicodeEncodeError:  # no name that a variable can have
        return ""
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"The environment variable {variable} holds characters that no key has, such as line "
            "feeds or letters with accents: set it anew."
        )
    return key


def stops_for_good(response: Response) -> str | None:
    """Return the fix if no later request can succeed either; else None.

    The account is empty, the key is wrong, or the address leads elsewhere.

    Parameters
    ----------
    response : Response
        An error or a redirect, with its body read.
    """
    text = response.text
    if response.status_code == _PAYMENT_REQUIRED or _NO_CREDIT.search(text):
        return "the account has no credit left: add some, or use the key of another one"
    if _WRONG_KEY.search(text):
        return "set the environment variable of profile_api_key_env to a key that is valid"
    if 300 <= response.status_code < 400:
        elsewhere = without_credentials(one_line(response.headers.get("Location", "")))
        if not elsewhere:
            return "correct profile_api_base: it is no address of an OpenAI-compatible server"
        return (
            f"it redirects to '{elsewhere[:_LONGEST_ERROR]}', and redirects are not followed: if "
            "that server is right, name it with profile_api_base"
        )
    return None


def no_retry_if_final(response: Response) -> None:
    """Tell the client not to repeat a request that cannot succeed, by the header it obeys.

    Parameters
    ----------
    response : Response
        With its body read.
    """
    if response.status_code >= 400 and stops_for_good(response):
        response.headers["x-should-retry"] = "false"


class OptionalParameters:
    """The parameters of a request that some servers refuse, as far as this server takes them.

    Parameters
    ----------
    values : mapping of str to number
        By name; for the limit of the answer's length, under either of its two names.
    """

    LIMITS = ("max_completion_tokens", "max_tokens")
    _REFUSED = re.compile(
        r"unsupported|not supported|n[o']t support|unknown|unrecogni[sz]ed|not recogni[sz]ed"
        r"|unexpected|not permitted|not allowed|extra (input|field)|extra_forbidden"
        r"|no such (parameter|field|argument)|invalid (parameter|field|argument)"
        r"|additional propert|use '?max_",
        re.IGNORECASE,
    )

    def __init__(self, values: Mapping[str, float]) -> None:
        self._values = dict(values)
        self._refused: set[str] = set()

    @property
    def values(self) -> dict[str, float]:
        """What to send now."""
        return dict(self._values)

    def refused(self, sent: Mapping[str, object], parameter: object, text: str) -> str | None:
        """Find the parameter that an error is about, and leave it out from now on.

        A refused limit goes under its other name, once.

        Parameters
        ----------
        sent : mapping
            :attr:`values` when the request was made.
        parameter : object
            The error's field ``param``.
        text : str
            The error's body.

        Returns
        -------
        str or None
            The name; None if the error is about something else. The same request can be made
            again with the :attr:`values` that there are then.

        Raises
        ------
        ProfileError
            Both names of the limit are refused.
        """
        if not self._REFUSED.search(text):
            return None
        named = [name for name in sent if re.search(rf"\b{name}\b", text)]
        if isinstance(parameter, str) and parameter in sent:
            named.insert(0, parameter)
        if not named:
            return None
        name = named[0]
        if name not in self._refused:
            self._refused.add(name)
            value = self._values.pop(name)
            if name in self.LIMITS:
                other = self.LIMITS[1 - self.LIMITS.index(name)]
                if other in self._refused:
                    raise ProfileError(
                        f"The server takes neither {' nor '.join(self.LIMITS)}, so nothing limits "
                        "its answers. Choose another server (profile_api_base) or profile_model."
                    )
                self._values[other] = value
        return name
