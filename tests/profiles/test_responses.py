"""What comes over the wire, whatever it is, costs one profile and little memory."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from recbole_llmkt.profiles.encoders.openai import OpenAIEncoder
from recbole_llmkt.profiles.generation.generators import get_generator
from recbole_llmkt.profiles.responses import UnreadableResponseError, bounded, bounded_async
from recbole_llmkt.profiles.service import Service
from recbole_llmkt.utils.exceptions import ProfileError
from tests.profiles.generation.helpers import SETTINGS, request

pytest.importorskip("openai")
KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv(SETTINGS["profile_api_key_env"], KEY)


def message(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    kind = "Content-Type: application/json"
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", kind]
    lines += headers
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def server(*replies: bytes):
    """Answer each connection with the next reply, the last one for good; yield address, asked."""
    asked: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def answer():
        while True:
            try:
                connection = listening.accept()[0]
            except OSError:
                return
            with connection, connection.makefile("rb") as file:
                lines = [line.lower() for line in iter(file.readline, b"\r\n") if line]
                length = next(line for line in lines if line.startswith(b"content-length:"))
                body = file.read(int(length.split(b":")[1]))
                asked.append(b"".join(lines) + body)
                try:
                    connection.sendall(replies[min(len(asked), len(replies)) - 1])
                except OSError:
                    continue  # the client has read enough

    threading.Thread(target=answer, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1", asked
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def keys(address):
    return {
        **SETTINGS,
        **{"profile_generator": "openai", "profile_api_base": address, "profile_retries": 0},
        **{"profile_concurrency": 1, "profile_timeout": 5},
    }


def ask(address, *tokens):
    return list(get_generator(keys(address)).answers(map(request, tokens)))


def completion(text):
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


GOOD = message(completion("Likes it."))
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "odd",
    [
        b"SSH-2.0-OpenSSH_9.0\r\n",
        GOOD.replace(b"HTTP/1.1 200", b"HTTP/1.1 abc"),
        GOOD.replace(b"Content-Length: ", b"Content-Length: 1"),
        GOOD.replace(b"Content-Length: ", b"Content-Length: x"),
        GOOD.replace(b"Connection: close", b"Content-Length: 5"),
        message(completion("Likes it.") + b"more").replace(b"Length: 5", b"Length: 2"),
        message(b"{}", "X: " + "a" * 100_000),
        message(b"{}", "no colon"),
        message(b"not gzip", "Content-Encoding: gzip"),
        message(gzip.compress(completion("x"), mtime=0), "Content-Encoding: gzip, gzip"),
        message(completion("x"), "Content-Encoding: br"),
        CHUNKED + b"zz\r\n{}",
        CHUNKED + b"5\r\n{",
        CHUNKED + b"3\r\n{}\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_no_answer_costs_one_profile(odd):
    with server(odd, odd, GOOD) as (address, _):
        first, *others = ask(address, "u1", "u2", "u3")
    assert first.error and first.error.isprintable() and len(first.error) < 400
    assert others[-1].text == "Likes it."


def test_a_server_that_sends_no_http_gives_no_vectors():
    with server(b"SSH-2.0-OpenSSH_9.0\r\n") as (address, _):
        encoder = OpenAIEncoder("openai:m", Service(address, KEY), keys(address))
        with pytest.raises(ProfileError, match="returned no embeddings with 'm'"):
            encoder.encode_batch(["a"])


@pytest.mark.parametrize("packed", [False, True])
def test_an_endless_answer_is_not_read_to_its_end(packed):
    body = completion(" " * 6_000_000)
    body = message(gzip.compress(body), "Content-Encoding: gzip") if packed else message(body)
    with server(body) as (address, _):
        encoder = OpenAIEncoder("openai:m", Service(address, KEY), keys(address), batch_size=1)
        (answer,) = ask(address, "u1")
        with pytest.raises(ProfileError, match="longer than 1,000,000 bytes"):
            encoder.encode_batch(["a"])
    assert "it is longer than 4,000,000 bytes" in str(answer.error)


def test_a_body_that_comes_a_byte_at_a_time_is_given_up():
    def slowly():
        while True:
            yield b" "
            time.sleep(0.01)

    async def slowly_async():
        for part in slowly():
            yield part

    async def read(response):
        await bounded_async(1000, 0.1)(response)
        return [part async for part in response.aiter_bytes()]

    slow = SimpleNamespace(status_code=200, headers={}, iter_bytes=slowly, aiter_bytes=slowly_async)
    with pytest.raises(UnreadableResponseError, match="longer than profile_timeout"):
        asyncio.run(read(slow))
    bounded(1000, 0.1)(slow)
    with pytest.raises(UnreadableResponseError, match="longer than profile_timeout"):
        list(slow.iter_bytes())


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_redirects_are_not_followed(status):
    with server(GOOD) as (elsewhere, asked_elsewhere):
        redirect = message(b"", f"Location: {elsewhere}/chat/completions", status=status)
        with server(redirect) as (address, asked):
            with pytest.raises(ProfileError, match=f"redirects to '{elsewhere}.*profile_api_base"):
                ask(address, "u1", "u2", "u3")
            encoder = OpenAIEncoder("openai:m", Service(address, KEY), keys(address))
            with pytest.raises(ProfileError, match=f"redirects to '{elsewhere}.*profile_api_base"):
                encoder.encode_batch(["a"])
    assert len(asked) == 2 and KEY.encode() in asked[0]
    assert not asked_elsewhere


def test_a_key_that_comes_back_is_not_stored():
    echo = completion(f"Likes {KEY}.")
    with server(message(echo)) as (address, _):
        (answer,) = ask(address, "u1")
    assert answer.text == "Likes ***."
    unreadable = message(b'{"choices": "' + b"x" * 55 + KEY.encode() + b'"}')
    with server(unreadable) as (address, _):
        (answer,) = ask(address, "u1")
    assert "xxx***" in answer.error and KEY[:8] not in answer.error
