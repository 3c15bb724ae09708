"""An OpenAI-compatible server whose answers and faults a test decides."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TEXT = "Enjoys quiet dramas and dry comedies."
_LOOK_EVERY = 0.01  # seconds, for the request to stop
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


@dataclass
class Reply:
    """What the server does with one request."""

    text: Any = TEXT
    status: int = 200
    finish: str = "stop"
    raw: bytes | None = None  # sent instead of a completion
    delay: float = 0.0
    cut: bool = False  # close the connection in the middle of the body
    headers: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)  # beside the message, with such a status
    usage: Any = field(default_factory=lambda: dict(USAGE))

    def body(self) -> bytes:
        if self.raw is not None:
            return self.raw
        if self.status != 200:
            return json.dumps({"error": {"message": self.text, **self.error}}).encode()
        message = {"role": "assistant", "content": self.text}
        return json.dumps(
            {
                "id": "x",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "message": message, "finish_reason": self.finish}],
                "usage": self.usage,
            }
        ).encode()


class OpenAIServer:
    """Serve ``decide(number, payload)`` for the request of that number, from 0 on."""

    def __init__(self, decide: Callable[[int, dict[str, Any]], Reply]) -> None:
        self.decide = decide
        self.payloads: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))

    def __enter__(self) -> OpenAIServer:
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(_LOOK_EVERY,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"http://{self.host}/v1"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def reply(self, payload: dict[str, Any], key: str | None) -> Reply:
        with self._lock:
            number = len(self.payloads)
            self.payloads.append(payload)
            self.keys.append(key)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            reply = self.decide(number, payload)
            time.sleep(reply.delay)
            return reply
        finally:
            with self._lock:
                self._at_once -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Say nothing about clients that were killed."""


def _handler(server: OpenAIServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Without it, every answer waits 40 ms for the client's acknowledgement of the header.
        wbufsize = -1

        def do_POST(self) -> None:
            payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.paths.append(self.path)
            reply = server.reply(payload, self.headers.get("Authorization"))
            body = reply.body()
            self.send_response(reply.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if reply.cut else body)
            self.wfile.flush()
            if reply.cut:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    return Handler
