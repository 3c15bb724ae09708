"""Profiles from any OpenAI-compatible server: the OpenAI service, vLLM, Ollama, llama.cpp."""

from __future__ import annotations

import asyncio
import gc
import logging
import queue
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from recbole_llmkt.profiles.generation.generators.base import (
    BUSY,
    UNREACHABLE,
    Answer,
    Generator,
    Request,
    combine,
)
from recbole_llmkt.profiles.responses import bounded_async, client_keywords
from recbole_llmkt.profiles.service import (
    OptionalParameters,
    Service,
    StatusError,
    stops_for_good,
)
from recbole_llmkt.utils.exceptions import ConfigError, ProfileError
from recbole_llmkt.utils.types import SettingsLike

if TYPE_CHECKING:
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient
logger = logging.getLogger(__name__)

# Answers; an error that ends the run; None at the end.
_TURN = 0.0005  # seconds
_Arrived = queue.SimpleQueue["Answer | Exception | None"]

# Counts of tokens above this are no counts.
_MOST_TOKENS = 2**40
# Values of finish_reason: those of OpenAI and of the services that have others of their own.
_CUT = re.compile(r"length|max_?(output_?)?tokens?", re.IGNORECASE)
_FILTERED = re.compile(r"filter|safety|recitation|prohibited|blocklist|spii|refusal", re.IGNORECASE)
_COMPLETE = re.compile(r"stop|eos|\bend|(?<!in)complete|(?<!un)finish|done", re.IGNORECASE)
# Bytes: thoughts of a hundred thousand tokens fit ten times.
_LONGEST_RESPONSE = 4_000_000


class OpenAIGenerator(Generator):
    """Ask a chat model behind an OpenAI-compatible server, many requests at once.

    ``profile_concurrency`` requests are under way at any time. The client itself waits and tries
    again (``profile_retries``) after 429, 5xx, time-outs and broken connections, but not where the
    account is empty. Seed and temperature are passed on; the second attempt at an answer has the
    next seed. A server that knows the length limit under its other name only, or refuses seed or
    temperature, is asked without them for the rest of the run, which is logged.

    The key comes from the environment variable that ``profile_api_key_env`` names, and from
    nowhere else; it is neither logged nor stored.

    Raises
    ------
    ConfigError
        ``profile_model`` is missing, or the ``openai`` package is not installed. That the key is
        missing shows when the first request is made: counting tokens needs none.
    """

    def __init__(self, settings: SettingsLike) -> None:
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
        self._service = Service.of(settings) if settings["profile_api_base"] else None
        # OpenAI's newer models know the new name only, most other servers the old one.
        limit = "max_tokens" if self._service else "max_completion_tokens"
        optional = {
            limit: settings["profile_max_tokens"],
            "temperature": settings["profile_temperature"],
            "seed": settings["profile_seed"],
        }
        self._optional = OptionalParameters(
            {name: value for name, value in optional.items() if value is not None}
        )
        self._concurrency: int = settings["profile_concurrency"]

    @classmethod
    def block_size(cls, settings: SettingsLike) -> int:
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
            The server refuses the key or the model, or the account has no credit.
        """
        # A thread of its own: requests continue while the caller writes answers to the disk.
        arrived: _Arrived = queue.SimpleQueue()
        loop = asyncio.new_event_loop()
        # Who stops after many failures must not have paid for answers nobody looked at: a place is
        # free again when its answer has been taken.
        places = loop.run_until_complete(_places(self._concurrency + self._concurrency // 4))
        asking = loop.create_task(self._ask_all(iter(requests), arrived, places))
        thread = threading.Thread(target=_drive, args=(loop, asking, arrived), daemon=True)
        thread.start()
        try:
            while (answer := arrived.get()) is not None:
                if isinstance(answer, Exception):
                    raise answer
                loop.call_soon_threadsafe(places.release)
                yield answer
        finally:
            loop.call_soon_threadsafe(asking.cancel)
            thread.join()
            loop.close()

    async def _ask_all(
        self, requests: Iterator[Request], arrived: _Arrived, places: asyncio.Semaphore
    ) -> None:
        pace = _Pace(self._concurrency)

        async def work() -> None:
            while await places.acquire():
                request = next(requests, None)
                if request is None:
                    places.release()  # for the next worker, which ends, too
                    return
                async with pace:
                    answer = await self._profile(client, request)
                arrived.put(answer)

        self._service = Service.of(self.settings)
        client = self._openai.AsyncOpenAI(
            **self._service.client_arguments(self.settings), http_client=self._http_client()
        )
        async with client:
            workers = [asyncio.create_task(work()) for _ in range(self._concurrency)]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    def _http_client(self) -> DefaultAsyncHttpxClient:
        """Return a client over aiohttp (it comes with the extra ``openai``), or over httpx.

        aiohttp takes a quarter less time for every request.
        """
        on_response = bounded_async(_LONGEST_RESPONSE, self.settings["profile_timeout"])
        keywords = client_keywords(self.settings, on_response)
        try:
            client: DefaultAsyncHttpxClient = self._openai.DefaultAioHttpClient(**keywords)
        except (AttributeError, RuntimeError):
            client = self._openai.DefaultAsyncHttpxClient(**keywords)
        return client

    async def _profile(self, client: AsyncOpenAI, request: Request) -> Answer:
        """Ask, and ask once more if the answer is not usable."""
        first = self.judge(request, await self._ask(client, request))
        if first.error is None or first.unreachable:
            return first
        again = request.again(first.error)
        return combine(first, self.judge(again, await self._ask(client, again)))

    async def _ask(self, client: AsyncOpenAI, request: Request) -> Answer:
        errors = self._openai
        while True:
            optional = self._optional.values
            try:
                completion = await self._post(client, request, optional)
            except errors.APIStatusError as error:
                if not self._adapted(optional, error):
                    return self._refused(request, error)
            except errors.APIConnectionError as error:
                reason = f"{UNREACHABLE} ({self._clean(error.__cause__ or error)})"
                return self._failed(request, reason, unreachable=True)
            except Exception as error:  # also the HTTP library's, which the client lets through
                reason = f"the server sent an unreadable answer: {self._clean(error)}"
                return self._failed(request, reason)
            else:
                return self._read(request, completion)

    async def _post(
        self, client: AsyncOpenAI, request: Request, optional: Mapping[str, float]
    ) -> object:
        parameters = dict(optional)
        if "seed" in parameters:
            parameters["seed"] += request.attempt
        body = {"model": self.settings["profile_model"], "messages": request.messages, **parameters}
        # The typed chat.completions.create() takes twice the time of a request: at hundreds of
        # answers a second that is more than there is. This is the client's documented way to
        # any endpoint, with the same retries; what comes back is checked in _read().
        return await client.post("/chat/completions", cast_to=object, body=body)

    def _adapted(self, sent: Mapping[str, float], error: StatusError) -> bool:
        """Leave out a parameter that the server refuses; False if the error is another one."""
        if error.status_code not in (400, 422):
            return False
        before = self._optional.values
        name = self._optional.refused(sent, getattr(error, "param", None), _body(error))
        if name in before and name not in self._optional.values:
            hint = "the limit is sent under its other name"
            if name not in OptionalParameters.LIMITS:
                hint = f"it is left out, as with profile_{name}: None"
            logger.warning("%s refuses %s: %s for this run.", self._name, name, hint)
        return name is not None

    def _refused(self, request: Request, error: StatusError) -> Answer:
        """Return a failed answer for a status that is an error, or end the run."""
        reason, status = self._clean(error), error.status_code
        fix = stops_for_good(error.response)
        if fix:
            raise ProfileError(
                f"{self._name} refuses every request: {reason.rstrip(' .')}. Fix: {fix}. What was "
                "answered is stored; the same command resumes."
            )
        if status in (401, 403, 404):
            raise ProfileError(
                f"{self._name} refuses the model '{self.model_of(self.settings)}' or the key in "
                f"{self.settings['profile_api_key_env']}: {reason.rstrip(' .')}. Fix: correct "
                "them, or the path of profile_api_base (often /v1)."
            )
        if status == 429 or status >= 500:
            return self._failed(request, f"{BUSY} ({reason})", unreachable=True)
        return self._failed(request, f"the server said {reason}")

    def _read(self, request: Request, completion: Any) -> Answer:
        try:
            choice = completion["choices"][0]
            text, finish = _text_of(choice["message"].get("content")), choice.get("finish_reason")
            refused = choice["message"].get("refusal")
        except (AttributeError, LookupError, TypeError):
            said = completion.get("error") if isinstance(completion, dict) else None
            reason = self._clean(
                said if isinstance(said, str) else self._server.shown(said or completion)
            )
            return self._failed(request, f"the server sent no chat completion ({reason})")
        is_cut = isinstance(finish, str) and _CUT.search(finish) is not None
        if refused or (isinstance(finish, str) and _FILTERED.search(finish)):
            said = self._clean(refused) if refused else "filtered"
            return self._failed(request, f"it was a refusal by the server: {said}")
        if finish and not is_cut and not _COMPLETE.search(str(finish)):
            reason = f"the server ended it early (finish_reason {self._server.shown(finish)})"
            return self._failed(request, reason)
        usage = completion.get("usage")
        return Answer(
            request.id,
            self._server.hide(text),
            history=request.history,
            tokens_in=_count(usage, "prompt_tokens"),
            tokens_out=_count(usage, "completion_tokens"),
            cut_off=is_cut,
        )

    def _failed(self, request: Request, reason: str, unreachable: bool = False) -> Answer:
        return Answer(
            request.id, "", history=request.history, error=reason, unreachable=unreachable
        )

    @property
    def _name(self) -> str:
        return self._service.name if self._service else "the OpenAI service"

    @property
    def _server(self) -> Service:
        assert self._service is not None  # set before the first request
        return self._service

    def _clean(self, error: object) -> str:
        return self._server.clean(error)


def _body(error: StatusError) -> str:
    """Return the body of a status that is an error."""
    return str(error.response.text) or str(error)


def _text_of(content: object) -> str:
    """Return the text of a message: ``content`` itself, or its parts that are text."""
    if isinstance(content, list):
        parts = [part for part in content if part.get("type") in ("text", "output_text")]
        content = "".join(part["text"] for part in parts)
    if not isinstance(content, (str, type(None))):
        raise TypeError("its content is no text")
    return content or ""


def _count(usage: object, name: str) -> int:
    """Return a number of tokens; 0 where the server gives none, or something else."""
    value = usage.get(name) if isinstance(usage, dict) else None
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return value if 0 <= value < _MOST_TOKENS else 0


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
        self._starts: dict[asyncio.Task[object] | None, float] = {}

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


async def _places(count: int) -> asyncio.Semaphore:
    """Make a semaphore in the loop that will use it: Python 3.9 ties it to the current one."""
    return asyncio.Semaphore(count)


def _drive(loop: asyncio.AbstractEventLoop, asking: asyncio.Task[None], arrived: _Arrived) -> None:
    """Run the event loop until everything is asked, and say how it ended."""
    try:
        with _busy():
            loop.run_until_complete(asking)
    except asyncio.CancelledError:
        pass
    except Exception as error:
        arrived.put(error)
    finally:
        arrived.put(None)


@contextmanager
def _busy() -> Iterator[None]:
    """Let the garbage collector run less, and threads take turns more often.

    Collections take a fifth of the time of a request: every one makes thousands of objects that
    are gone when it is answered, and each collection they set off looks through the hundreds of
    thousands that the libraries hold. The thread that writes answers to the disk loses its turn
    with every call of the system, and would wait 5 ms for the next one where requests keep the
    interpreter busy: no more than 200 profiles a second.
    """
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*thresholds)
        gc.unfreeze()
