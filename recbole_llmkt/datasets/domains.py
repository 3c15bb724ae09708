"""What the items of a dataset are, as their columns tell."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path

from recbole_llmkt.datasets.atomic import read_header
from recbole_llmkt.utils.types import RunConfig

logger = logging.getLogger(__name__)

# Words in names of columns, the special domains first: a bookshop has prices, too.
_WORDS = {
    "movies": "movie film director actor actress cast imdb tmdb runtime screenplay",
    "music": "music song track artist album band playlist lyrics bpm",
    "books": "book author isbn isbn13 publisher",
    "news": "news headline byline newspaper",
    "shop": "shop sku price brand product order qty quantity asin ean upc basket cart customer "
    "color colour stock",
}
DOMAINS = ("generic", *_WORDS)
GENERIC = DOMAINS[0]


def words_of(name: str) -> list[str]:
    """Return the words in the name of a column or dataset, in lower case.

    Examples
    --------
    >>> words_of("movieTitle"), words_of("order_date")
    (['movie', 'title'], ['order', 'date'])
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W_]+", spaced.lower())


def guess_domain(names: Iterable[str]) -> tuple[str, str]:
    """Guess what the items are.

    Parameters
    ----------
    names : iterable of str
        Names of columns; that of the dataset may be among them.

    Returns
    -------
    domain : str
        One of :data:`DOMAINS`: the one with most words in the names; ``generic`` without any.
    because : str
        The names that say so, or ``""``.
    """
    telling: dict[str, list[str]] = {domain: [] for domain in _WORDS}
    for name in dict.fromkeys(names):
        words = {form for word in words_of(name) for form in (word, word.rstrip("s"))}
        for domain, known in _WORDS.items():
            if words.intersection(known.split()):
                telling[domain].append(name)
    best = max(telling, key=lambda domain: len(telling[domain]))
    return (best, ", ".join(telling[best])) if telling[best] else (GENERIC, "")


def domain_of(config: RunConfig) -> str:
    """Return ``profile_domain``, or guess it from the dataset's columns and name, and log that."""
    if config["profile_domain"] != "auto":
        return str(config["profile_domain"])
    stem = Path(config["data_path"]) / config["dataset"]
    parts = config["benchmark_filename"] or ()
    paths = [stem.with_name(f"{stem.name}.item")]
    paths += [
        stem.with_name(f"{stem.name}.{part}") for part in ("inter", *map("{}.inter".format, parts))
    ]
    names = [name for path in paths if path.is_file() for name in read_header(path, config, False)]
    standard = {config[f"{role}_FIELD"] for role in ("USER_ID", "ITEM_ID", "TIME", "RATING")}
    domain, because = guess_domain([*(set(names) - standard), config["dataset"]])
    logger.info(
        "profile_domain: taking '%s'%s.",
        domain,
        f", because of the name {because}" if because else ": no name of a column says more",
    )
    return domain
