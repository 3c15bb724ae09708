"""Recommendations: ranked items with their titles, and a reason for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from logging import getLogger

from recbole_llmkt.datasets.metadata import read_item_metadata
from recbole_llmkt.recommend.explain import Explainer, Explanation
from recbole_llmkt.recommend.rank import Ranked, Ranker
from recbole_llmkt.utils.exceptions import DataError
from recbole_llmkt.utils.types import RunConfig

logger = getLogger(__name__)

# Users whose sentences are in memory at once.
_BLOCK = 1024


@dataclass(frozen=True)
class RecommendedItem:
    """One item of a recommendation.

    Attributes
    ----------
    token : str
        Its id in the atomic files.
    title : str
        Its title; the token where the files have none.
    score : float
        The model's score: it orders the items of one user, and has no unit.
    explanation : Explanation
        What the profiles say.
    """

    token: str
    title: str
    score: float
    explanation: Explanation


@dataclass(frozen=True)
class Recommendation:
    """The best items for a user, the best one first."""

    user: str
    items: tuple[RecommendedItem, ...]


def recommend(
    ranker: Ranker, user_ids: Sequence[int], topk: int = 10, n_reasons: int = 1
) -> Iterator[Recommendation]:
    """Yield a recommendation for each user.

    Parameters
    ----------
    ranker : Ranker
        The trained model.
    user_ids : sequence of int
        Internal ids, as of :meth:`Ranker.user_ids`.
    topk : int
        Items for each user.
    n_reasons : int
        Sentences for each item.

    Raises
    ------
    LLMKTError
        As :meth:`Ranker.rank` and :meth:`Explainer.explain`.
    """
    titles = _titles(ranker.config)
    explainer = Explainer(ranker.config, n_reasons)
    ranking = ranker.rank(user_ids, topk)
    for start in range(0, len(user_ids), _BLOCK):
        users = ranker.tokens("user", user_ids[start : start + _BLOCK])
        ranked: dict[str, Ranked] = dict(zip(users, ranking))
        tokens = {
            user: ranker.tokens("item", [item for item, _ in pairs])
            for user, pairs in ranked.items()
        }
        explanations = explainer.explain(tokens)
        for user, pairs in ranked.items():
            if len(pairs) < topk:
                logger.info("User '%s' knows all but %d items.", user, len(pairs))
            items = zip(tokens[user], pairs, explanations[user])
            yield Recommendation(
                user,
                tuple(
                    RecommendedItem(token, titles.get(token) or token, score, explanation)
                    for token, (_, score), explanation in items
                ),
            )


def _titles(config: RunConfig) -> dict[str, str]:
    try:
        metadata = read_item_metadata(config)
    except DataError as error:
        logger.warning("Items are shown by their ids. %s", error)
        return {}
    return {token: described.title for token, described in metadata.items()}
