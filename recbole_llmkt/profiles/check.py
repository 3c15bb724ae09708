"""Check profiles before training: gaps, refusals, repetitions, titles of test items."""

from __future__ import annotations

import io
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recbole_llmkt.datasets.history import history_digest, training_histories
from recbole_llmkt.datasets.metadata import read_item_metadata
from recbole_llmkt.datasets.splits import build_splits
from recbole_llmkt.profiles.generation.generators.base import is_refusal
from recbole_llmkt.profiles.store import Profile, ProfileStore
from recbole_llmkt.utils.exceptions import DataError
from recbole_llmkt.utils.files import replace_file
from recbole_llmkt.utils.types import Dataset, RunConfig

logger = logging.getLogger(__name__)

# The commonest words that no other of these languages shares.
_STOP_WORDS = {
    "English": "the and of with this that for they are their is to by who",
    "German": "der und das mit für ist nicht eine von den sich auch dem",
    "French": "les des et une est pour dans avec qui sur pas aux ses cette",
    "Spanish": "los las y el por con una para que del su más como es",
    "Italian": "il gli di che per della una sono nel è più anche dei",
    "Portuguese": "os uma não com para do da em são mais dos pelo seu",
    "Dutch": "het een van en voor met niet zijn ook op te deze naar",
}
_WORDS_OF = {name: frozenset(words.split()) for name, words in _STOP_WORDS.items()}
_WORD = re.compile(r"\w+")
_SHORTEST_TITLE = 6
_OPENING = "[\"'*_\u2018\u201c\u00ab]"
_CLOSING = "[,.]?[\"'*_\u2019\u201d\u00bb]"


@dataclass(frozen=True)
class Check:
    """What :func:`check_profiles` found about one kind of entity; ids are tokens.

    Attributes
    ----------
    entity : str
        ``"user"`` or ``"item"``.
    n_entities, n_profiles : int
        Entities of the training split, and those of them with a usable profile.
    missing, failed, empty, refusals : list of str
        Ids without a profile, with a recorded error, with an empty text, with a refusal.
    duplicates : list of list of str
        Groups of ids with the same text.
    plain_duplicates : list of list of str
        The same for texts by ``template``, which describes equal metadata with equal texts.
    other_history : list of str
        Users whose profile was written from other interactions than the training split.
    leaking_titles : dict of str to list of str
        Titles outside a user's training split that the user's profile names.
    languages : dict of str to int
        Profiles by language, the commonest first.
    lengths : list of int
        Words of each usable profile.
    """

    entity: str
    n_entities: int
    n_profiles: int
    missing: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    duplicates: list[list[str]] = field(default_factory=list)
    plain_duplicates: list[list[str]] = field(default_factory=list)
    other_history: list[str] = field(default_factory=list)
    leaking_titles: dict[str, list[str]] = field(default_factory=dict)
    languages: dict[str, int] = field(default_factory=dict)
    lengths: list[int] = field(default_factory=list)

    @property
    def n_problems(self) -> int:
        """Number of profiles that should be fixed before training.

        Gaps, languages, equal plain descriptions and named titles are not counted: a named title
        can be a coincidence, so look at it.
        """
        repeated = sum(len(group) for group in self.duplicates)
        rest = (self.failed, self.empty, self.refusals, self.other_history)
        return repeated + sum(map(len, rest))

    def lines(self) -> list[str]:
        """Return the findings as lines of text."""
        lengths = sorted(self.lengths) or [0]
        coverage = 100 * self.n_profiles / max(1, self.n_entities)
        languages = ", ".join(f"{name} {count}" for name, count in self.languages.items())
        leaks = [f"{token} ({'; '.join(titles)})" for token, titles in self.leaking_titles.items()]
        rows: list[tuple[str, Sequence[str]]] = [
            ("without a profile", self.missing),
            ("failed", self.failed),
            ("empty", self.empty),
            ("refusals", self.refusals),
            ("the same text", ["=".join(group) for group in self.duplicates]),
            ("another history", self.other_history),
            ("name a title outside the training split (look at them)", leaks),
        ]
        if self.plain_duplicates:
            same = ["=".join(group) for group in self.plain_duplicates]
            rows.append(("the same plain description (by template, from the same metadata)", same))
        return [
            f"{self.entity} profiles: {self.n_profiles} of {self.n_entities} ({coverage:.1f}%)",
            f"  words: {lengths[0]} to {lengths[-1]}, median {lengths[len(lengths) // 2]}",
            f"  language: {languages or 'none'}",
            *[f"  {label}: {len(entries)}{_examples(entries)}" for label, entries in rows],
        ]


def _named_titles(
    usable: Mapping[str, Profile], unseen_titles: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Return the titles outside the training split that a profile names, by id."""
    named = {
        token: [title for title in unseen_titles.get(token, ()) if names(profile.text, title)]
        for token, profile in usable.items()
    }
    return {token: titles for token, titles in named.items() if titles}


def _duplicates(usable: Mapping[str, Profile]) -> dict[bool, list[list[str]]]:
    """Return groups of ids of one text: under True those that are plain descriptions."""
    by_text: dict[str, list[str]] = {}
    for token, profile in usable.items():
        by_text.setdefault(" ".join(profile.text.lower().split()), []).append(token)
    same: dict[bool, list[list[str]]] = {True: [], False: []}
    for group in by_text.values():
        if len(group) > 1:
            same[all(_is_plain(usable[token]) for token in group)].append(group)
    return same


def check_profiles(
    entity: str,
    profiles: Mapping[str, Profile],
    tokens: Iterable[str],
    histories: Mapping[str, str] | None = None,
    unseen_titles: Mapping[str, Sequence[str]] | None = None,
) -> Check:
    """Look for problems in profiles.

    Parameters
    ----------
    entity : str
        ``"user"`` or ``"item"``.
    profiles : mapping of str to Profile
        By id; those of entities that are not in ``tokens`` are ignored.
    tokens : iterable of str
        The entities of the dataset.
    histories : mapping of str to str, optional
        Digest of each user's training history.
    unseen_titles : mapping of str to sequence of str, optional
        Per user the titles of the interactions outside the training split.

    Returns
    -------
    Check
    """
    wanted = list(tokens)
    known = {token: profiles[token] for token in wanted if token in profiles}
    usable = {token: profile for token, profile in known.items() if profile.usable}
    same = _duplicates(usable)
    named = _named_titles(usable, unseen_titles or {})
    return Check(
        entity=entity,
        n_entities=len(wanted),
        n_profiles=len(usable),
        missing=[token for token in wanted if token not in known],
        failed=[token for token, profile in known.items() if profile.error is not None],
        empty=[
            token
            for token, profile in known.items()
            if profile.error is None and not profile.usable
        ],
        refusals=[
            token
            for token, profile in usable.items()
            if not _is_plain(profile)
            and is_refusal(profile.text)  # "I Cannot Help It (1970)." is a title
        ],
        duplicates=same[False],
        plain_duplicates=same[True],
        other_history=_other_history(usable, histories) if histories else [],
        leaking_titles=named,
        languages=dict(
            Counter(language(profile.text) for profile in usable.values()).most_common()
        ),
        lengths=[len(profile.text.split()) for profile in usable.values()],
    )


def _other_history(usable: Mapping[str, Profile], histories: Mapping[str, str]) -> list[str]:
    """List the users whose profile was not written from the training interactions they have."""
    nothing = history_digest([])
    return [
        token
        for token, profile in usable.items()
        if histories[token] not in (nothing, profile.history)
    ]


def _is_plain(profile: Profile) -> bool:
    """Whether a profile is neither by a language model nor edited by a person."""
    return profile.generator == "template" and not profile.edited


def check_stores(config: RunConfig, stores: Sequence[ProfileStore]) -> list[Check]:
    """Check stores against the splits and the titles of a dataset.

    Parameters
    ----------
    config : recbole_llmkt.config.Config
        The run's configuration.
    stores : sequence of ProfileStore
        Profiles of the dataset.
    """
    splits = build_splits(config)
    histories = training_histories(splits[0])
    checks = []
    for store in stores:
        if store.entity == "item":
            tokens = map(str, histories.item_tokens[1:])
            checks.append(check_profiles("item", store.read(), tokens))
            continue
        checks.append(
            check_profiles(
                "user",
                store.read(),
                map(str, histories.user_tokens[1:]),
                histories.digests(),
                _unseen_titles(config, splits[1:]),
            )
        )
    return checks


def _unseen_titles(config: RunConfig, splits: Sequence[Dataset]) -> dict[str, list[str]]:
    try:
        items = read_item_metadata(config)
    except DataError as error:
        logger.warning("Titles in profiles are not checked: %s", error)
        return {}
    titles: dict[str, list[str]] = {}
    for split in splits:
        histories = training_histories(split)
        for user_id, user in enumerate(map(str, histories.user_tokens)):
            tokens = map(str, histories.item_tokens[histories.items(user_id)])
            titles.setdefault(user, []).extend(
                items[token].title for token in tokens if token in items
            )
    return titles


def names(text: str, title: str) -> bool:
    """Tell whether a text names a title.

    A title of one word is also a word: it counts only in quotation marks or asterisks. Others
    count wherever they stand whole, in their own spelling; a trailing article may lead.

    Examples
    --------
    >>> names("fond of The Godfather and heat waves", "Godfather, The"), names("heat", "Heat")
    (True, False)
    >>> names('praises "Heat" and *Alien*', "Heat")
    True
    """
    start, comma, article = title.rpartition(", ")
    if comma and article in ("The", "A", "An", "Les", "La", "Le", "Il", "Das", "Der", "Die"):
        title = f"{article} {start}"
    title = title.strip()
    if not title or title not in text:
        return False
    escaped = re.escape(title)
    if " " not in title or len(title) < _SHORTEST_TITLE:
        return re.search(rf"{_OPENING}{escaped}{_CLOSING}", text) is not None
    return re.search(rf"(?<!\w){escaped}(?!\w)", text) is not None


def language(text: str) -> str:
    """Guess the language of a text: by its commonest words, or by its script.

    Returns
    -------
    str
        An English name of a language, of a script (``"Cyrillic"``), or ``"unknown"``.
    """
    letters = [letter for letter in text[:2000] if letter.isalpha()]
    scripts = Counter(unicodedata.name(letter, "unknown").split()[0] for letter in letters)
    if not scripts:
        return "unknown"
    script = scripts.most_common(1)[0][0]
    if script in ("CJK", "HIRAGANA", "KATAKANA"):
        return "Japanese" if scripts["HIRAGANA"] + scripts["KATAKANA"] else "Chinese"
    if script != "LATIN":
        return script.capitalize()
    words = Counter(_WORD.findall(text.lower()))
    hits = {name: sum(words[word] for word in known) for name, known in _WORDS_OF.items()}
    best = max(hits, key=lambda name: hits[name])
    return best if hits[best] else "unknown"


def plot_lengths(checks: Sequence[Check], path: str | Path) -> None:
    """Draw the words per profile as one histogram for each check, into a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(checks), 3.2), layout="constrained")
    axes = figure.subplots(1, len(checks), squeeze=False)[0]
    for axis, check in zip(axes, checks):
        axis.hist(check.lengths, bins=30, color="#4878a8")
        axis.set_xlabel(f"words in a {check.entity} profile")
        axis.set_ylabel("profiles")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    replace_file(Path(path), content.getvalue())


def _examples(entries: Sequence[str], most: int = 5) -> str:
    if not entries:
        return ""
    return f": {', '.join(entries[:most])}{', ...' if len(entries) > most else ''}"
