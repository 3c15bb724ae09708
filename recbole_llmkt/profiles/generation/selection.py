"""Which profiles a generation run writes."""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from recbole_llmkt.profiles.generation.generators import get_generator_class
from recbole_llmkt.profiles.generation.requests import RequestMaker
from recbole_llmkt.profiles.store import Profile, ProfileStore, failed, stale
from recbole_llmkt.utils.exceptions import ConfigError, ProfileError
from recbole_llmkt.utils.text import one_line

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """Which profiles a generation run writes, besides those that are missing or out of date.

    Attributes
    ----------
    shard : str or None
        ``"3/16"``: the third of sixteen parts only, into a folder of its own
        (:func:`shard_folder`). An entity is in the same part whatever else the data hold.
    retry_failed : bool
        Retry profiles that failed earlier.
    overwrite_others : bool
        Replace what another generator, model or prompt wrote. What ``template`` wrote is
        always replaced when a language model is asked; without this, a run that would replace
        anything else is refused, also where the history has changed.
    overwrite_edits : bool
        Replace texts that a person has corrected.

    Raises
    ------
    ConfigError
        ``shard`` cannot be read, or comes with ``overwrite_edits``.
    """

    shard: str | None = None
    retry_failed: bool = False
    overwrite_others: bool = False
    overwrite_edits: bool = False

    def __post_init__(self) -> None:
        if self.shard:
            parse_shard(self.shard)
        if self.shard and self.overwrite_edits:
            raise ConfigError(
                "--overwrite-edits cannot be used with --shard: `llmkt profile merge` keeps what a "
                "person has corrected. Run it once without --shard."
            )


WHAT_IS_MISSING = Selection()


def shard_folder(folder: Path, shard: str) -> Path:
    """Return the folder of a part's profiles: ``shards/3-of-16`` for ``"3/16"``."""
    number, total = parse_shard(shard)
    return folder / "shards" / f"{number}-of-{total}"


def parse_shard(shard: str) -> tuple[int, int]:
    """Read ``"3/16"``.

    Raises
    ------
    ConfigError
        It is not of this form, or the number is not from 1 to the total.
    """
    numbers = re.fullmatch(r"(\d+)/(\d+)", shard.strip())
    if not numbers or not 1 <= int(numbers.group(1)) <= int(numbers.group(2)):
        raise ConfigError(f"Cannot read the shard '{shard}': write 1/16, 2/16, ... 16/16.")
    return int(numbers.group(1)), int(numbers.group(2))


def origin_of(requests: RequestMaker) -> dict[str, str]:
    """Return generator, model and prompt as they are stored with each profile."""
    settings = requests.settings
    name = settings["profile_generator"]
    return {
        "generator": name,
        "model": get_generator_class(name).model_of(settings),
        "prompt": requests.prompt.digest if requests.prompt else "",
    }


class _ByOthers:
    """Tells whether a profile is replaced because of who wrote it."""

    def __init__(self, origin: Mapping[str, str], overwrite: bool) -> None:
        self._origin = origin
        self._overwrite = overwrite

    def __call__(self, profile: Profile) -> bool:
        return self._is_other(profile) and (self._overwrite or profile.generator == "template")

    def _is_other(self, profile: Profile) -> bool:
        return any(getattr(profile, name) != value for name, value in self._origin.items())

    def refuse(self, profiles: Mapping[str, Profile], replaced: Iterable[str]) -> None:
        """Refuse to replace profiles that cost something by those of another generator or prompt.

        Raises
        ------
        ProfileError
            A profile of another generator, model or prompt would be replaced.
        """
        if self._overwrite:
            return
        known = [profiles[token] for token in replaced if token in profiles]
        paid = [
            profile
            for profile in known
            if profile.usable
            and not profile.edited
            and profile.generator != "template"
            and self._is_other(profile)
        ]
        if paid:
            former = paid[0]
            by = "the same prompt"
            for name in ("generator", "model"):
                if getattr(former, name) != self._origin[name]:
                    by = f"--profile_{name}={getattr(former, name)}"
                    break
            raise ProfileError(
                f"{len(paid)} profiles are out of date, that of '{one_line(former.id)}' for one, "
                f"and were written by {one_line(f'{former.generator} {former.model}'.strip())}: "
                f"this run would replace them by {self._named()}. Write them with {one_line(by)}, "
                "or pass --overwrite-others."
            )

    def _named(self) -> str:
        return f"{self._origin['generator']} {self._origin['model']}".strip()

    def warn(self, profiles: Mapping[str, Profile], kept: Iterable[str]) -> None:
        """Warn of profiles that are kept although another generator, model or prompt wrote them."""
        known = [profiles[token] for token in kept if token in profiles]
        others = [
            profile
            for profile in known
            if profile.usable and not profile.edited and self._is_other(profile)
        ]
        if others:
            example = others[0]
            logger.warning(
                "%d profiles by another generator, model or prompt are kept, such as that of "
                "'%s' (%s). Replace them with --overwrite-others.",
                len(others),
                example.id,
                f"{example.generator} {example.model}".strip(),
            )


def wanted_tokens(
    requests: RequestMaker,
    folder: Path,
    selection: Selection,
) -> tuple[list[str], int]:
    """Return the tokens to write now, and the number of those that can stay."""
    digests = requests.digests
    stores = [ProfileStore(folder, requests.entity)]
    if selection.shard:
        number, total = parse_shard(selection.shard)
        digests = {
            token: digest
            for token, digest in digests.items()
            if zlib.crc32(token.encode()) % total == number - 1
        }
        stores.append(ProfileStore(shard_folder(folder, selection.shard), requests.entity))
    # The part's own store was written later than the whole.
    profiles = {token: profile for store in stores for token, profile in store.read().items()}
    others = _ByOthers(origin_of(requests), selection.overwrite_others)
    missing = set(digests).intersection(*(stale(store, digests, others) for store in stores))
    others.refuse(profiles, [token for token in digests if token in missing])
    others.warn(profiles, digests.keys() - missing)
    if selection.retry_failed:
        missing.update(failed(profiles.values()))
    if selection.overwrite_edits:
        missing.update(token for token, profile in profiles.items() if profile.edited)
    tokens = [token for token in digests if token in missing]
    return tokens, len(digests) - len(tokens)
