"""Generate profiles, and estimate what that costs."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from recbole_llmkt.profiles.exchange import external_changes, import_external
from recbole_llmkt.profiles.external import external_profiles
from recbole_llmkt.profiles.generation.engine import spread
from recbole_llmkt.profiles.generation.generators import get_generator, get_generator_class
from recbole_llmkt.profiles.generation.generators.base import fix_of
from recbole_llmkt.profiles.generation.requests import RequestMaker
from recbole_llmkt.profiles.generation.selection import (
    WHAT_IS_MISSING,
    Selection,
    origin_of,
    shard_folder,
    wanted_tokens,
)
from recbole_llmkt.profiles.locations import own_store
from recbole_llmkt.profiles.store import Profile, ProfileStore, utc_now, write_manifest
from recbole_llmkt.utils.exceptions import ConfigError, ProfileError
from recbole_llmkt.utils.progress import tqdm
from recbole_llmkt.utils.types import RunConfig, Settings

logger = logging.getLogger(__name__)

# A dry run fills in so many prompts, evenly spread, and scales their tokens up.
_SAMPLE = 1000
_SHOWN = 3
# Profiles that fail one after the other before a run stops: each costs two requests.
_PATIENCE = 20


@dataclass(frozen=True)
class Summary:
    """What a generation run did.

    Attributes
    ----------
    written, failed : int
        Profiles, and answers that were not usable twice.
    skipped : int
        Entities whose profile is up to date, or failed in an earlier run.
    tokens_in, tokens_out : int
        Tokens of all prompts and answers of this run.
    seconds : float
        Duration.
    """

    written: int
    failed: int
    skipped: int
    tokens_in: int
    tokens_out: int
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """What a generation run would do.

    Attributes
    ----------
    count, skipped : int
        Profiles that would be written, and those that are there.
    first : list of str
        The first prompts; without a language model, the first profiles.
    tokens_in, tokens_out : int
        Estimated tokens of all prompts; the most that all answers can have.
    cost : float or None
        In the currency of the prices; None without them.
    """

    count: int
    skipped: int
    first: list[str]
    tokens_in: int
    tokens_out: int
    cost: float | None


class _FailuresInARow:
    """Stops a run in which nothing succeeds."""

    def __init__(self) -> None:
        self._reasons: list[str] = []

    def note(self, profile: Profile) -> None:
        """Count a profile that has been stored.

        Raises
        ------
        ProfileError
            It is the last of twenty failures in a row.
        """
        if profile.error is None:
            self._reasons.clear()
            return
        self._reasons.append(profile.error)
        if len(self._reasons) < _PATIENCE:
            return
        fixes = Counter(fix_of(reason) or reason for reason in self._reasons)
        (usual, count), *_ = fixes.most_common(1)
        example = next(reason for reason in self._reasons if usual in (fix_of(reason), reason))
        fix = usual if usual != example else "see what the server or the model expects"
        raise ProfileError(
            f"Stopped: {_PATIENCE} profiles in a row failed, {count} of them because {example}. "
            f"Fix: {fix}. What was written is stored; the same command resumes after these "
            f"{_PATIENCE}, and --retry-failed tries them again."
        )


class ProfileWriter:
    """A worker of the engine: tokens in, profiles out, each as soon as its answer arrives."""

    def __init__(self, requests: RequestMaker) -> None:
        self._requests = requests
        self._generator = get_generator(requests.settings)
        self._origin = origin_of(requests)

    def __call__(self, tokens: Iterable[str]) -> Iterator[Profile]:
        """Write the profiles of the entities with these tokens."""
        for answer in self._generator.answers(map(self._requests, tokens)):
            yield Profile(
                id=answer.id,
                text=answer.text,
                generator=self._origin["generator"],
                model=self._origin["model"],
                prompt=self._origin["prompt"],
                history=answer.history,
                time=utc_now(),
                tokens_in=answer.tokens_in,
                tokens_out=answer.tokens_out,
                error=answer.error,
            )


def generate_profiles(
    config: RunConfig, entity: str, selection: Selection = WHAT_IS_MISSING
) -> Summary:
    """Write the profiles that are missing, or whose history has changed.

    Every profile is on the disk as soon as its answer has arrived, so a run that is stopped in
    any way resumes when it is started again. An answer that is not usable is asked for once more,
    then kept as failed with the reason. A run of a language model in which twenty profiles in a
    row fail is stopped.

    Parameters
    ----------
    config : recbole_llmkt.config.Config
        The ``profile_*`` keys say how; the training split is that of its ``eval_args``.
    entity : str
        ``"user"`` or ``"item"``.
    selection : Selection
        Which profiles.

    Returns
    -------
    Summary

    Raises
    ------
    LLMKTError
        The data, the prompt or the language model cannot be used, or nothing succeeds.
    """
    start = time.monotonic()
    if config["profile_generator"] == "file":
        return _import_file(config, entity, selection)
    folder = own_store(config, entity).folder
    requests = RequestMaker(config, entity)
    store = ProfileStore(
        shard_folder(folder, selection.shard) if selection.shard else folder, entity
    )
    totals = {"written": 0, "failed": 0, "tokens_in": 0, "tokens_out": 0}
    failures = _FailuresInARow()
    asks_model = get_generator_class(requests.settings["profile_generator"]).is_language_model
    with store.writing():
        tokens, skipped = wanted_tokens(requests, folder, selection)
        if tokens:
            write_manifest(store.folder, _manifest(config, requests))
        for profile in _write(requests, tokens):
            store.append(profile)
            totals["written" if profile.usable else "failed"] += 1
            totals["tokens_in"] += profile.tokens_in
            totals["tokens_out"] += profile.tokens_out
            if asks_model:
                failures.note(profile)
    summary = Summary(skipped=skipped, seconds=time.monotonic() - start, **totals)
    _log(summary, len(tokens), store)
    return summary


def _import_file(config: RunConfig, entity: str, selection: Selection) -> Summary:
    """Import ``profile_file``: what ``profile_generator: file`` stands for."""
    start = time.monotonic()
    path = _profile_file(config)
    logger.warning(
        "profile_generator: file is deprecated. Use `llmkt profile import %s`, which runs now.",
        path,
    )
    n_profiles = len(external_profiles(path, entity, config))
    store = own_store(config, entity)
    n_imported = import_external(store, path, config, selection.overwrite_edits)
    seconds = time.monotonic() - start
    return Summary(n_imported, 0, n_profiles - n_imported, 0, 0, seconds)


def _profile_file(config: RunConfig) -> Path:
    if not config["profile_file"]:
        raise ConfigError("profile_generator: file needs profile_file: the file's path.")
    return Path(config["profile_file"])


def estimate(
    config: RunConfig,
    entity: str,
    price_in: float | None = None,
    price_out: float | None = None,
    selection: Selection = WHAT_IS_MISSING,
) -> Estimate:
    """Tell what :func:`generate_profiles` would do, without asking a language model.

    It refuses what that refuses.

    Parameters
    ----------
    config, entity, selection
        As for :func:`generate_profiles`.
    price_in, price_out : float, optional
        Price of a million tokens of prompts and of answers, in any currency.
    """
    store = own_store(config, entity)
    if config["profile_generator"] == "file":
        path = _profile_file(config)
        profiles = external_profiles(path, entity, config)
        changes = external_changes(store, profiles, path, selection.overwrite_edits)
        first = [profile.text for profile in changes[:_SHOWN]]
        return Estimate(len(changes), len(profiles) - len(changes), first, 0, 0, 0.0)
    requests = RequestMaker(config, entity)
    tokens, skipped = wanted_tokens(requests, store.folder, selection)
    if requests.prompt is None:
        first = [profile.text for profile in ProfileWriter(requests)(tokens[:_SHOWN])]
        return Estimate(len(tokens), skipped, first, 0, 0, 0.0)
    generator = get_generator(requests.settings)
    sample = tokens[:: -(-len(tokens) // _SAMPLE)] if tokens else []
    counts = [
        generator.count_tokens(requests(token).messages)
        for token in tqdm(sample, desc="Count tokens", delay=2)
    ]
    tokens_in = round(sum(counts) / max(1, len(counts)) * len(tokens))
    tokens_out = len(tokens) * int(requests.settings["profile_max_tokens"])
    cost = None
    if price_in is not None or price_out is not None:
        cost = (tokens_in * (price_in or 0.0) + tokens_out * (price_out or 0.0)) / 1e6
    first = [_as_text(requests(token).messages) for token in tokens[:_SHOWN]]
    return Estimate(len(tokens), skipped, first, tokens_in, tokens_out, cost)


def _write(requests: RequestMaker, tokens: list[str]) -> Iterator[Profile]:
    if not tokens:
        return
    settings = requests.settings
    generator = get_generator_class(settings["profile_generator"])
    profiles: Iterator[Profile] = spread(
        partial(ProfileWriter, requests),
        tokens,
        engine=settings["profile_engine"],
        block_size=generator.block_size(settings),
        on_gpu=settings["profile_generator"] == "transformers"
        and settings["profile_device"] != "cpu",
    )
    name = f"{requests.entity.capitalize()} profiles"
    yield from tqdm(profiles, total=len(tokens), desc=name, delay=2)


def _log(summary: Summary, n_wanted: int, store: ProfileStore) -> None:
    left_out = n_wanted - summary.written - summary.failed
    if left_out:
        logger.warning("The generator returned no profile for %d %ss.", left_out, store.entity)
    all_failed = [profile for profile in store.read().values() if profile.error is not None]
    if all_failed:
        logger.warning(
            "%d %s profiles failed, such as that of '%s', because %s. Try them again with "
            "--retry-failed.",
            len(all_failed),
            store.entity,
            all_failed[-1].id,
            all_failed[-1].error,
        )


def _manifest(config: RunConfig, requests: RequestMaker) -> Settings:
    settings = requests.settings
    by = {
        "generator": settings["profile_generator"],
        "prompt": Path(settings["profile_prompt"]).name if requests.prompt else None,
        "domain": requests.domain,
        "prompt_digest": requests.prompt.digest if requests.prompt else None,
        "max_history": settings["profile_max_history"],
        "history": settings["profile_history"],
    }
    return {
        "dataset": str(config["dataset"]),
        "eval_args": config["eval_args"],
        f"{requests.entity}_profiles": by,
    }


def _as_text(messages: list[dict[str, str]]) -> str:
    return "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages)
