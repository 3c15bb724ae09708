"""What every generator shares: requests, answers, and the judgement of answers."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from recbole_llmkt.profiles.store import TOO_LONG, longest_text, too_long
from recbole_llmkt.profiles.thoughts import unknown_mark, without_thoughts
from recbole_llmkt.utils.text import one_line, printable
from recbole_llmkt.utils.types import SettingsLike, Values

# Sentences that language models refuse with; they stand at the start of an answer.
# "I can't" alone is no refusal: there are titles that start so.
_DEED = (
    r"(assist|help|provide|fulfil|comply|write|create|generate|describe|answer|do|complete|give"
    r"|process|determine|infer|share|discuss|make|engage|continue|offer|produce|summari[sz]e|tell)"
)
_REFUSAL = re.compile(
    r"\W*(i'?m (very |so |really )?sorry\b|sorry, (but|i)\b|i apologi[sz]e\b|unfortunately, i\b"
    rf"|i (can ?not|can't|am (not able|unable) to|won't|will not) {_DEED}\w*\b"
    rf"|i'm (not able|unable) to {_DEED}\w*\b"
    r"|as an? (ai|artificial intelligence|(large )?language model)\b)",
    re.IGNORECASE,
)
# No letter and no digit, or what programs write for nothing.
_NOTHING = re.compile(r"[\W_]*(?:(?:null|none|nil|n/?a|nan|undefined)[\W_]*)?", re.IGNORECASE)
_FENCE = re.compile(r"^\s*```\w*\s*\n(.*?)\n?\s*```\s*$", re.DOTALL)

_CUT_OFF = "it was cut off by the length limit (profile_max_tokens)"
_EMPTY = "it was empty"
_REFUSED = "it was a refusal"
_NO_JSON = "it was not a JSON object"
UNREACHABLE = "the server cannot be reached"
BUSY = "the server is busy or out of order"
# What helps where many answers fail for one reason, by the words that the reason starts with.
_FIXES = {
    _CUT_OFF: "raise profile_max_tokens (a reasoning model needs several thousand)",
    _EMPTY: "raise profile_max_tokens if it is a reasoning model, or choose another profile_model",
    _REFUSED: "choose another profile_model or profile_prompt",
    TOO_LONG: "raise profile_max_tokens, or ask for less in profile_prompt",
    _NO_JSON: "choose another profile_model, or a profile_prompt without answer_key",
    UNREACHABLE: "correct profile_api_base, or wait for the server",
    BUSY: "wait, lower profile_concurrency, or raise profile_retries",
}


@dataclass(frozen=True)
class Request:
    """One profile to write.

    Attributes
    ----------
    id : str
        The entity's token.
    entity : str
        ``"user"`` or ``"item"``.
    messages : list of dict
        ``{"role", "content"}``, for language models; empty for generators without one.
    context : dict
        What the messages were made from.
    history : str or None
        Digest of the history that the profile is written from.
    answer_key : str or None
        The answer is a JSON object with the profile under this key; None: it is the profile.
    attempt : int
        0, or 1 when the first answer was not usable.
    """

    id: str
    entity: str
    messages: list[dict[str, str]] = field(default_factory=list)
    context: Values = field(default_factory=dict)
    history: str | None = None
    answer_key: str | None = None
    attempt: int = 0

    def again(self, problem: str) -> Request:
        """Return the second attempt: it tells the model what was wrong with its first answer."""
        note = f"\n\n(Your last answer could not be used: {problem}. Mind that, and answer again.)"
        messages = [dict(message) for message in self.messages]
        if messages:
            messages[-1]["content"] += note
        return replace(self, messages=messages, attempt=self.attempt + 1)


@dataclass(frozen=True)
class Answer:
    """What came back for one request.

    Attributes
    ----------
    id : str
        The entity's token.
    text : str
        The profile, ``""`` if there is none.
    history : str or None
        Digest of the history that the profile was written from.
    tokens_in, tokens_out : int
        Tokens of prompt and answer, both attempts together.
    cut_off : bool
        The answer ended at the length limit.
    error : str or None
        Why there is no profile.
    unreachable : bool
        The model could not be asked: no server, no network.
    """

    id: str
    text: str
    history: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    cut_off: bool = False
    error: str | None = None
    unreachable: bool = False


def is_refusal(text: str) -> bool:
    """Tell whether an answer starts as language models' refusals do."""
    return _REFUSAL.match(text.replace("\u2019", "'")) is not None


def fix_of(reason: str) -> str | None:
    """Return what helps where many answers fail for a reason; None if nothing general does."""
    return next((fix for start, fix in _FIXES.items() if reason.startswith(start)), None)


def judge(
    request: Request, answer: Answer, is_language_model: bool = True, longest: int | None = None
) -> Answer:
    """Take the profile out of a raw answer, or say in ``error`` why it is not usable.

    Thoughts of a reasoning model, control characters and terminal escapes are left out. An answer
    is not usable if it is empty, a refusal, cut off by the length limit, longer than that limit
    allows, or not the JSON object that was asked for.

    Parameters
    ----------
    request : Request
        What was asked.
    answer : Answer
        What came back.
    is_language_model : bool
        Whether a language model wrote it: only those think and refuse.
    longest : int, optional
        Characters that the profile may have, as of :func:`longest_text`.
    """
    if answer.error is not None:
        return replace(answer, text="")
    text, problem = printable(answer.text).strip(), None
    if is_language_model:
        text = _unfenced(without_thoughts(text))
    if answer.cut_off:
        problem = _CUT_OFF
    elif not text or (is_language_model and _NOTHING.fullmatch(text)):
        problem = _EMPTY
    elif is_language_model and (mark := unknown_mark(text)):
        problem = f"it holds the mark '{mark}' of a chat format that is not known here"
    elif is_language_model and is_refusal(text):
        problem = f"{_REFUSED} ('{_short(text)}')"
    elif request.answer_key is not None:
        text, problem = _json_text(text, request.answer_key)
    if problem is None and longest is not None:
        problem = too_long(text, longest)
    return replace(answer, text="" if problem else text, error=problem)


def _unfenced(text: str) -> str:
    fenced = _FENCE.match(text)
    return fenced.group(1).strip() if fenced else text


def _json_text(text: str, key: str) -> tuple[str, str | None]:
    try:
        value = json.loads(text)[key]
    except (ValueError, LookupError, TypeError, RecursionError):
        value = None
    if isinstance(value, str) and (clean := printable(value).strip()):
        return clean, None
    return "", f"{_NO_JSON} with a text under '{key}' ('{_short(text)}')"


def _short(text: str) -> str:
    line = " ".join(one_line(text).split())
    return line if len(line) <= 60 else line[:57] + "..."


def combine(first: Answer, second: Answer) -> Answer:
    """Return the second attempt's answer, with the tokens of both."""
    return replace(
        second,
        tokens_in=first.tokens_in + second.tokens_in,
        tokens_out=first.tokens_out + second.tokens_out,
    )


class Generator(ABC):
    """Write profiles, in batches.

    A subclass answers a batch of requests with raw answers. Answers that are not usable are asked
    for once more; what fails twice is returned as failed, with the reason.

    Parameters
    ----------
    settings : mapping
        The ``profile_*`` keys with their values.

    Attributes
    ----------
    uses_prompt : bool
        Whether the requests need messages.
    is_language_model : bool
        Whether a language model writes the text.
    """

    uses_prompt = True
    is_language_model = True

    def __init__(self, settings: SettingsLike) -> None:
        self.settings = settings
        self.batch_size: int = settings["profile_batch_size"]

    @classmethod
    def model_of(cls, settings: SettingsLike) -> str:
        """Return the name of the language model, for the store; ``""`` without one."""
        return str(settings["profile_model"] or "")

    @classmethod
    def block_size(cls, settings: SettingsLike) -> int:
        """Return how many requests make one piece of work for a worker of a cluster."""
        return int(settings["profile_batch_size"])

    @abstractmethod
    def answer_batch(self, requests: list[Request]) -> list[Answer]:
        """Answer each request, in any order; unknown entities may be left out."""

    def answers(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Answer requests one batch after the other.

        Parameters
        ----------
        requests : iterable of Request
            Taken one batch at a time.

        Yields
        ------
        Answer
            One for each request, as soon as it is known, in any order.
        """
        remaining = iter(requests)
        while batch := list(islice(remaining, self.batch_size)):
            known = {request.id: request for request in batch}
            repeated: dict[str, Answer] = {}
            for answer in self._judged(batch):
                if answer.error is None or not self.is_language_model:
                    yield answer
                else:
                    repeated[answer.id] = answer
            if not repeated:
                continue
            again = [known[token].again(str(answer.error)) for token, answer in repeated.items()]
            for answer in self._judged(again):
                yield combine(repeated[answer.id], answer)

    def _judged(self, requests: list[Request]) -> Iterator[Answer]:
        known = {request.id: request for request in requests}
        for answer in self.answer_batch(requests):
            yield self.judge(known[answer.id], answer)

    def judge(self, request: Request, answer: Answer) -> Answer:
        """Take the profile out of a raw answer: :func:`judge`, by this generator's settings."""
        longest = longest_text(self.settings)
        return judge(request, answer, self.is_language_model, longest)

    def count_tokens(self, messages: list[dict[str, str]]) -> int:
        """Estimate the tokens of a prompt, without a request: four characters a token."""
        return sum(-(-len(message["content"]) // 4) + 4 for message in messages)
