"""Profiles from any OpenAI-compatible server: the OpenAI service, vLLM, Ollama, llama.cpp."""

from __future__ import annotations

import asyncio
import gc
import logging
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from recbole_llmkt.profiles.generation.generators.base import (
    Answer,
    Generator,
    Request,
    combine,
    judge,
)
from recbole_llmkt.profiles.service import service_key, without_key
from recbole_llmkt.utils.exceptions import ConfigError, ProfileError

logger = logging.getLogger(__name__)

# Answers; an error that ends the run; None at the end.
_Arrived = queue.SimpleQueue["Answer | Exception | None"]

# Requests that fail one after the other before a run is given up: the server is down, not busy.
_PATIENCE = 20


class OpenAIGenerator(Generator):
    """Ask a chat model behind an OpenAI-compatible server, many requests at once.

    ``profile_concurrency`` requests are under way at any time. The client itself waits and tries
    again (``profile_retries``) after 429, 5xx, time-outs and broken connections. Seed and
    temperature are passed on; the second attempt at an answer has the next seed.

    The key comes from the environment variable that ``profile_api_key_env`` names, and from
    nowhere else; it is neither logged nor stored.

    Raises
    ------
    ConfigError
        ``profile_model`` is missing, or the ``openai`` package is not installed. That the key is
        missing shows when the first request is made: counting tokens needs none.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        try:
            import openai
        except ImportError as error:
            raise ConfigError(
                "profile_generator: openai needs the openai package: `pip install openai`."
            ) from error
        if not settings["profile_model"]:
            raise ConfigError(
                "profile_generator: openai needs profile_model: a model that the server knows."
            )
        self._openai = openai
        self._base: str | None = settings["profile_api_base"]
        # OpenAI's newer models know the new name only, other servers the old one only.
        limit = "max_tokens" if self._base else "max_completion_tokens"
        self._options = {"model": settings["profile_model"], limit: settings["profile_max_tokens"]}
        if settings["profile_temperature"] is not None:  # reasoning models refuse the key
            self._options["temperature"] = settings["profile_temperature"]
        self._seed: int = settings["profile_seed"]
        self._concurrency: int = settings["profile_concurrency"]

    @classmethod
    def block_size(cls, settings: Mapping[str, Any]) -> int:
        """Return four rounds of requests: a worker waits for the slowest of a block."""
        return 4 * int(settings["profile_concurrency"])

    def answer_batch(self, requests: list[Request]) -> list[Answer]:
        """Answer all requests, and return when the last one is answered."""
        return list(self.answers(requests))

    def answers(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Answer requests, ``profile_concurrency`` of them at any time.

        Parameters
        ----------
        requests : iterable of Request
            Taken one at a time, when a place is free.

        Yields
        ------
        Answer
            One for each request, the moment it arrives.

        Raises
        ------
        ProfileError
            The server refuses the key or the model, or cannot be reached at all.
        """
        # A thread of its own: requests go on while the caller writes answers to the disk.
        arrived: _Arrived = queue.SimpleQueue()
        loop = asyncio.new_event_loop()
        asking = loop.create_task(self._ask_all(iter(requests), arrived))
        thread = threading.Thread(target=_drive, args=(loop, asking, arrived), daemon=True)
        thread.start()
        failures = 0
        try:
            while (answer := arrived.get()) is not None:
                if isinstance(answer, Exception):
                    raise answer
                yield answer
                failures = failures + 1 if answer.unreachable else 0
                if failures >= _PATIENCE:
                    raise ProfileError(
                        f"{failures} requests to {self._address} failed one after the other, the "
                        f"last one because {answer.error}. What was answered is stored: correct "
                        "profile_api_base or wait for the server, and start again with "
                        "--retry-failed."
                    )
        finally:
            loop.call_soon_threadsafe(asking.cancel)
            thread.join()
            loop.close()

    @property
    def _address(self) -> str:
        return self._base or "the OpenAI service"

    async def _ask_all(self, requests: Iterator[Request], arrived: _Arrived) -> None:
        pace = _Pace(self._concurrency)

        async def work() -> None:
            for request in requests:
                async with pace:
                    answer = await self._profile(client, request)
                arrived.put(answer)

        client = self._openai.AsyncOpenAI(
            api_key=service_key(self.settings),
            base_url=self._base,
            timeout=self.settings["profile_timeout"],
            max_retries=self.settings["profile_retries"],
            http_client=self._transport(),
        )
        async with client:
            workers = [asyncio.create_task(work()) for _ in range(self._concurrency)]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    def _transport(self) -> Any:
        """Return the client's transport over aiohttp: a quarter less work for every request.

        Where aiohttp (it comes with the extra ``openai``) is missing, the client takes its own.
        """
        try:
            return self._openai.DefaultAioHttpClient(timeout=self.settings["profile_timeout"])
        except (AttributeError, RuntimeError):
            return None

    async def _profile(self, client: Any, request: Request) -> Answer:
        """Ask, and ask once more if the answer is not usable."""
        first = judge(request, await self._ask(client, request))
        if first.error is None or first.unreachable:
            return first
        again = request.again(first.error)
        return combine(first, judge(again, await self._ask(client, again)))

    async def _ask(self, client: Any, request: Request) -> Answer:
        errors = self._openai
        try:
            # The typed chat.completions.create() takes twice the time of a request: at hundreds of
            # answers a second that is more than there is. This is the client's documented way to
            # any endpoint, with the same retries; what comes back is checked in _read().
            completion = await client.post(
                "/chat/completions",
                cast_to=object,
                body={
                    "messages": request.messages,
                    "seed": self._seed + request.attempt,
                    **self._options,
                },
            )
        except (
            errors.AuthenticationError,
            errors.PermissionDeniedError,
            errors.NotFoundError,
        ) as error:
            raise ProfileError(
                f"{self._address} refuses the model '{self.model_of(self.settings)}' or the key in "
                f"{self.settings['profile_api_key_env']}: {self._clean(error)}"
            ) from None
        except errors.APIStatusError as error:
            busy = error.status_code == 429 or error.status_code >= 500
            return self._failed(request, f"the server said {self._clean(error)}", busy)
        except errors.APIConnectionError as error:
            return self._failed(request, self._clean(error.__cause__ or error), unreachable=True)
        except (errors.OpenAIError, ValueError, TypeError) as error:
            return self._failed(request, f"the server sent garbage: {self._clean(error)}")
        return self._read(request, completion)

    def _read(self, request: Request, completion: Any) -> Answer:
        try:
            choice = completion["choices"][0]
            text, finish = choice["message"].get("content") or "", choice.get("finish_reason")
            refused = choice["message"].get("refusal")
            if not isinstance(text, str):
                raise TypeError("its content is no text")
        except (AttributeError, LookupError, TypeError) as error:
            return self._failed(request, f"the server sent no chat completion ({error})")
        if finish == "content_filter" or refused:
            return self._failed(request, f"it was a refusal by the server: {refused or 'filtered'}")
        usage = completion.get("usage") or {}
        return Answer(
            request.id,
            text,
            history=request.history,
            tokens_in=usage.get("prompt_tokens") or 0,
            tokens_out=usage.get("completion_tokens") or 0,
            cut_off=finish == "length",
        )

    def _failed(self, request: Request, reason: str, unreachable: bool = False) -> Answer:
        return Answer(
            request.id, "", history=request.history, error=reason, unreachable=unreachable
        )

    def _clean(self, error: BaseException) -> str:
        return without_key(error, service_key(self.settings))


class _Pace:
    """Keep requests apart: those that start together come back together, and wait for each other.

    A burst would last for the whole run, as every answer starts the next request. Starts are held
    apart by most of what lies between them at an even pace, so the rate itself is never held back.
    """

    SHARE = 0.8
    LONGEST = 0.01  # seconds: requests further apart do not wait for each other

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._gap = 0.003
        self._next = 0.0
        self._mean: float | None = None
        self._starts: dict[asyncio.Task[Any] | None, float] = {}

    async def __aenter__(self) -> None:
        clock = asyncio.get_running_loop().time
        wait = self._next - clock()
        self._next = max(self._next, clock()) + self._gap
        if wait > 0:
            await asyncio.sleep(wait)
        self._starts[asyncio.current_task()] = clock()

    async def __aexit__(self, *_: object) -> None:
        took = asyncio.get_running_loop().time() - self._starts.pop(asyncio.current_task())
        self._mean = took if self._mean is None else self._mean + 0.05 * (took - self._mean)
        self._gap = min(self.LONGEST, self.SHARE * self._mean / self._concurrency)


def _drive(loop: asyncio.AbstractEventLoop, asking: asyncio.Task[None], arrived: _Arrived) -> None:
    """Run the event loop until everything is asked, and say how it ended."""
    try:
        with _rare_collections():
            loop.run_until_complete(asking)
    except asyncio.CancelledError:
        pass
    except Exception as error:
        arrived.put(error)
    finally:
        arrived.put(None)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let the garbage collector run less: it takes a fifth of the time of a request.

    Every request makes thousands of objects that are gone when it is answered, and each
    collection they set off looks through the hundreds of thousands that the libraries hold.
    """
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
