"""What an HTTP client does with a server's responses: bounded, not redirected, not repeated."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Protocol

from recbole_llmkt.profiles.service import Response, no_retry_if_final
from recbole_llmkt.utils.types import Settings, SettingsLike

# With more than one of them, or another, a few kilobytes can become gigabytes.
_ENCODINGS = ("", "identity", "gzip", "deflate")


class UnreadableResponseError(Exception):
    """A response that is not read: too long, too slow, or compressed as nobody asked for."""


class SyncResponse(Response, Protocol):
    """A response of a client without ``asyncio``."""

    iter_bytes: Callable[[], Iterator[bytes]]

    def read(self) -> bytes:
        """Read the body."""
        ...


class AsyncResponse(Response, Protocol):
    """A response of a client with ``asyncio``."""

    aiter_bytes: Callable[[], AsyncIterator[bytes]]

    async def aread(self) -> bytes:
        """Read the body."""
        ...


def client_keywords(settings: SettingsLike, on_response: Callable[..., object]) -> Settings:
    """Return what an HTTP client of the ``openai`` package is made with.

    Redirects are not followed: they would carry what users did to a server that nobody named.

    Parameters
    ----------
    settings : mapping or recbole_llmkt.config.Config
        ``profile_timeout``.
    on_response : callable
        Of :func:`bounded` or :func:`bounded_async`.
    """
    return {
        "timeout": settings["profile_timeout"],
        "follow_redirects": False,
        "headers": {"Accept-Encoding": "gzip, deflate"},
        "event_hooks": {"response": [on_response]},
    }


def bounded(most_bytes: int, most_seconds: float) -> Callable[[SyncResponse], None]:
    """Return a hook that bounds a response's body.

    Parameters
    ----------
    most_bytes : int
        What is read of a body, decompressed.
    most_seconds : float
        How long a body may take. The client's own limit is for each piece of it.
    """

    def on_response(response: SyncResponse) -> None:
        _check_encoding(response)
        parts = response.iter_bytes

        def iterate() -> Iterator[bytes]:
            body = _Body(most_bytes, most_seconds)
            for part in parts():
                body.grow(part)
                yield part

        response.iter_bytes = iterate
        if response.status_code >= 400:
            response.read()
            no_retry_if_final(response)

    return on_response


def bounded_async(most_bytes: int, most_seconds: float) -> Callable[[AsyncResponse], object]:
    """Return the same hook for a client with ``asyncio``.

    Parameters
    ----------
    most_bytes, most_seconds
        As for :func:`bounded`.
    """

    async def on_response(response: AsyncResponse) -> None:
        _check_encoding(response)
        parts = response.aiter_bytes

        async def iterate() -> AsyncIterator[bytes]:
            body = _Body(most_bytes, most_seconds)
            async for part in parts():
                body.grow(part)
                yield part

        response.aiter_bytes = iterate
        if response.status_code >= 400:
            await response.aread()
            no_retry_if_final(response)

    return on_response


def _check_encoding(response: Response) -> None:
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in _ENCODINGS:
        raise UnreadableResponseError(f"it is compressed as '{encoding}', which was not asked for")


class _Body:
    """How much of a body has come so far, and since when."""

    def __init__(self, most_bytes: int, most_seconds: float) -> None:
        self._most_bytes = most_bytes
        self._most_seconds = most_seconds
        self._size = 0
        self._start = time.monotonic()

    def grow(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._most_bytes:
            raise UnreadableResponseError(f"it is longer than {self._most_bytes:,} bytes")
        if time.monotonic() - self._start > self._most_seconds:
            raise UnreadableResponseError(
                f"it takes longer than profile_timeout ({self._most_seconds:g} seconds)"
            )
