"""Recommendations: ranked items with their titles, and a reason for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from logging import getLogger

from recbole_llmkt.datasets.metadata import read_item_metadata
from recbole_llmkt.recommend.conditions import Condition, items_meeting
from recbole_llmkt.recommend.explain import Explainer, Explanation
from recbole_llmkt.recommend.factors import Factors
from recbole_llmkt.recommend.rank import Ranked, Ranker
from recbole_llmkt.utils.exceptions import DataError
from recbole_llmkt.utils.types import RunConfig

logger = getLogger(__name__)

# Users whose sentences are held in memory at once.
_BLOCK = 1024
_NO_REASON = Explanation()


@dataclass(frozen=True)
class RecommendedItem:
    """One item of a recommendation.

    Attributes
    ----------
    token : str
        Its id in the atomic files.
    title : str
        Its title, or the token if the files have none.
    score : float
        The model's score: it orders one user's items, and has no unit.
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


@dataclass(frozen=True)
class Block:
    """Recommendations for some users, column by column.

    Attributes
    ----------
    users : list of str, of length n_users
        Their ids.
    lengths : list of int, of length n_users
        How many items each user has.
    items, titles : list of str, of length n_rows
        User by user, the best item first.
    scores : list of float, of length n_rows
    explanations : list of Explanation, of length n_rows, or None
        None if no reasons were asked for.
    """

    users: list[str]
    lengths: list[int]
    items: list[str]
    titles: list[str]
    scores: list[float]
    explanations: list[Explanation] | None = None

    def recommendations(self) -> Iterator[Recommendation]:
        """Yield the recommendation of each user."""
        explanations = self.explanations or [_NO_REASON] * len(self.items)
        rows = map(RecommendedItem, self.items, self.titles, self.scores, explanations)
        for user, length in zip(self.users, self.lengths):
            yield Recommendation(user, tuple(itertools.islice(rows, length)))


class Recommender:
    """A trained model that recommends; users and items are named by their ids in the atomic files.

    Parameters
    ----------
    checkpoint : str
        What a training run of this package saved.
    config_dict : mapping, optional
        Settings that replace the checkpoint's: ``data_path``, ``profile_dir``, ...
    trust : bool
        The checkpoint is your own: see :func:`~recbole_llmkt.load_data_and_model`.

    Raises
    ------
    DataError
        The file is no checkpoint of this package, or its dataset cannot be read.

    Examples
    --------
    >>> recommender = Recommender("saved/BPR.pth")  # doctest: +SKIP
    >>> for each in recommender.top_k(["1", "5"], k=3, filters=["class=Drama"]):  # doctest: +SKIP
    ...     print(each.user, [item.title for item in each.items])
    """

    def __init__(
        self,
        checkpoint: str,
        config_dict: Mapping[str, object] | None = None,
        trust: bool = False,
    ) -> None:
        self._ranker = Ranker(checkpoint, config_dict, trust)
        self._explainers: dict[int, Explainer] = {}

    @property
    def config(self) -> RunConfig:
        """The configuration of the checkpoint's run, with the settings given here."""
        config: RunConfig = self._ranker.config
        return config

    @cached_property
    def users(self) -> list[str]:
        """All users who can be recommended to."""
        return self._ranker.tokens("user", self._ranker.all_user_ids())

    @cached_property
    def items(self) -> list[str]:
        """All items that can be recommended."""
        return self._ranker.tokens("item", self._ranker.all_item_ids())

    def top_k(
        self,
        users: Sequence[str] | None = None,
        k: int = 10,
        filters: Sequence[str] = (),
        reasons: int = 0,
    ) -> Iterator[Recommendation]:
        """Yield the best items for each user among those that the user does not know yet.

        Parameters
        ----------
        users : sequence of str, optional
            Their ids; None means :attr:`users`.
        k : int
            Items for each user; a user with fewer left gets fewer.
        filters : sequence of str
            Conditions that every item must meet, such as ``category=Books`` or ``price<20``: see
            :class:`~recbole_llmkt.recommend.conditions.Condition`.
        reasons : int
            Sentences of the user's profile for each item. They are looked up after the ranking.

        Returns
        -------
        iterator of Recommendation
            In the order of the users.

        Raises
        ------
        DataError
            The model learned nothing about a user, or no item meets the filters.
        ConfigError
            A filter cannot be read, or there are fewer than ``k`` items.
        """
        blocks = self.blocks(users, k, filters, reasons)
        return itertools.chain.from_iterable(block.recommendations() for block in blocks)

    def blocks(
        self,
        users: Sequence[str] | None = None,
        k: int = 10,
        filters: Sequence[str] = (),
        reasons: int = 0,
    ) -> Iterator[Block]:
        """Yield what :meth:`top_k` does for about a thousand users at a time, as columns."""
        ranker = self._ranker
        ranker.check_topk(k)
        ids = ranker.all_user_ids() if users is None else ranker.user_ids(users)
        conditions = [Condition.parse(text) for text in filters]
        allowed = items_meeting(self.config, conditions) if conditions else None
        ranking = ranker.rank(ids, k, allowed)
        return self._described(ids, ranking, reasons)

    def factors(self) -> Factors:
        """Return vectors of :attr:`users` and :attr:`items` whose product is the model's score.

        Raises
        ------
        ConfigError
            The model's score is no such product.
        """
        return self._ranker.factors(self._ranker.all_user_ids(), self._ranker.all_item_ids())

    def _described(
        self, user_ids: Sequence[int], ranking: Iterator[Ranked], reasons: int
    ) -> Iterator[Block]:
        ranker, titles, start = self._ranker, self._titles, 0
        for batch in _gathered(ranking):
            users = ranker.tokens("user", user_ids[start : start + len(batch.lengths)])
            items = ranker.tokens("item", batch.items)
            explanations = self._explain(users, batch.lengths, items, reasons) if reasons else None
            names = [titles.get(item) or item for item in items]
            yield Block(users, batch.lengths, items, names, batch.scores, explanations)
            start += len(users)

    def _explain(
        self, users: Sequence[str], lengths: Sequence[int], items: Sequence[str], reasons: int
    ) -> list[Explanation]:
        if reasons not in self._explainers:
            self._explainers[reasons] = Explainer(self.config, reasons)
        rest = iter(items)
        lists = {user: list(itertools.islice(rest, n)) for user, n in zip(users, lengths)}
        explained = self._explainers[reasons].explain(lists)
        return [explanation for user in users for explanation in explained[user]]

    @cached_property
    def _titles(self) -> dict[str, str]:
        try:
            metadata = read_item_metadata(self.config)
        except DataError as error:
            logger.warning("Items are shown by id. %s", error)
            return {}
        return {token: described.title for token, described in metadata.items()}


def _gathered(batches: Iterator[Ranked]) -> Iterator[Ranked]:
    """Join batches until they have enough users for a block."""
    joined = Ranked([], [], [])
    for batch in batches:
        joined.lengths.extend(batch.lengths)
        joined.items.extend(batch.items)
        joined.scores.extend(batch.scores)
        if len(joined.lengths) >= _BLOCK:
            yield joined
            joined = Ranked([], [], [])
    if joined.lengths:
        yield joined
