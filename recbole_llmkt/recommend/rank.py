"""Rank all items for some users, as RecBole's full ranking does."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from logging import getLogger
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_matrix

from recbole_llmkt.datasets.history import interaction_counts
from recbole_llmkt.recommend.factors import Factors, Product, find_product, user_vectors
from recbole_llmkt.recommend.inputs import Inputs
from recbole_llmkt.recommend.newcomers import load_to_serve
from recbole_llmkt.recommend.topk import top_k
from recbole_llmkt.utils.exceptions import ConfigError, DataError
from recbole_llmkt.utils.progress import tqdm

logger = getLogger(__name__)

_SHOWN = 5
# Scores in memory at once, if nothing else is computed. On a CPU, 16 MiB are allocated once; the
# pages of larger blocks are mapped anew for every batch, which takes longer than the product.
_SCORES = {"cpu": 2**22, "gpu": 2**26}


class Ranked(NamedTuple):
    """The best items of some users, the best one first.

    Attributes
    ----------
    lengths : list of int, of length n_users
        How many items each user has.
    items : list of int, of length n_rows
        Internal ids, user by user.
    scores : list of float, of length n_rows
    """

    lengths: list[int]
    items: list[int]
    scores: list[float]


class Ranker:
    """A trained model that ranks the whole catalogue for one user after another.

    A user's known interactions are those of the training and validation parts, as for the ranking
    of the test part. Their items are left out, unless the run sets ``repeatable`` (sequential
    models), as in RecBole's full ranking. Models without ``full_sort_predict`` score every pair. A
    sequential model continues the user's known history. A context-aware model that reads fields of
    an interaction (a time, a rating) gets those of the user's last known one.

    Parameters
    ----------
    model_file : str
        A checkpoint of this package.
    config_dict, trust
        See :func:`~recbole_llmkt.quick_start.load_data_and_model`.

    Raises
    ------
    DataError
        The file is no checkpoint of this package, or its dataset cannot be read.
    """

    def __init__(
        self, model_file: str, config_dict: Mapping[str, object] | None = None, trust: bool = False
    ) -> None:
        self._served = served = load_to_serve(model_file, config_dict, trust)
        self.config: Any = served.config
        self.model: Any = served.model.eval()
        self.dataset: Any = served.dataset
        loaders = (
            loader for loader in (served.train_data, served.valid_data) if loader is not None
        )
        self._parts = [loader._dataset for loader in loaders]
        users, items = (
            np.concatenate([part.inter_feat[field].numpy() for part in self._parts])
            for field in (self.dataset.uid_field, self.dataset.iid_field)
        )
        shape = (self.dataset.user_num, self.dataset.item_num)
        ones = np.ones(len(users), dtype=np.int32)
        self._known = csr_matrix((ones, (users, items)), shape=shape)
        self._trained = interaction_counts(self.dataset)["user"] > 0
        self.inputs = Inputs(self.config, self.dataset, self._parts, users)
        departed = self._ids_of(getattr(self.dataset, "departed_tokens", {}))
        self._departed = {
            entity: ids - served.from_profile.get(entity, set()) for entity, ids in departed.items()
        }

    @cached_property
    def product(self) -> Product | None:
        """How scores come from a product of vectors, found by experiment; None if they do not."""
        return find_product(self, self.all_user_ids())

    def factors(self, user_ids: Sequence[int], item_ids: Sequence[int]) -> Factors:
        """Return vectors of users and items whose product is the score.

        Parameters
        ----------
        user_ids, item_ids : sequence of int
            Internal ids.

        Raises
        ------
        ConfigError
            The model's score is no such product.
        """
        product = self.product
        if product is None:
            raise ConfigError(
                f"The score of {self.config['model']} is not the product of a user vector and an "
                "item vector, so a vector index cannot rank as it does: export recommendations "
                "with --topk=10."
            )
        rows = []
        with self._progress(len(user_ids), "Embed") as progress:
            for ids in self._batches(user_ids):
                rows.append(user_vectors(self, product, ids).cpu())
                progress.update(len(ids))
        return product.factors(rows, item_ids)

    def _progress(self, n_users: int, title: str) -> Any:
        return tqdm(total=n_users, desc=title, unit="user", delay=2, leave=False)

    def _batches(self, user_ids: Sequence[int]) -> Iterator[npt.NDArray[np.int64]]:
        """Yield groups of users whose scores are computed at once.

        ``eval_batch_size`` limits what a model computes for pairs; if scores are a product, nothing
        but the scores takes memory.
        """
        n_scores = self.config["eval_batch_size"]
        if self.product is not None:
            n_scores = _SCORES["cpu" if self.config["device"].type == "cpu" else "gpu"]
        step = max(1, n_scores // self.dataset.item_num)
        for start in range(0, len(user_ids), step):
            yield np.array(user_ids[start : start + step], dtype=np.int64)

    def _ids_of(self, tokens: Mapping[str, Sequence[str]]) -> dict[str, set[int]]:
        """Return the internal ids of user or item tokens."""
        fields = {"user": self.dataset.uid_field, "item": self.dataset.iid_field}
        return {
            entity: {
                int(self.dataset.field2token_id[name][token]) for token in tokens.get(name, ())
            }
            for entity, name in fields.items()
        }

    @property
    def n_items(self) -> int:
        """Number of items that can be recommended."""
        return int(self.dataset.item_num) - 1 - len(self._departed["item"])

    def tokens(self, entity: str, ids: Sequence[int]) -> list[str]:
        """Return the tokens of users or items with these internal ids."""
        field = self.dataset.uid_field if entity == "user" else self.dataset.iid_field
        return [str(token) for token in self.dataset.id2token(field, list(ids))]

    def user_ids(self, tokens: Sequence[str]) -> list[int]:
        """Return the internal ids of users.

        Raises
        ------
        DataError
            A user is not in the dataset, or the model learned nothing about them.
        """
        known = self.dataset.field2token_id[self.dataset.uid_field]
        unknown = set(getattr(self.dataset, "unknown_tokens", {}).get(self.dataset.uid_field, ()))
        new = [token for token in tokens if token in unknown]
        if new:
            raise DataError(
                f"{_some(new)}: new since this {self.config['model']} was trained, so it has no "
                "row for them, and they have no profile to make one from. Write their profiles "
                "(llmkt profile), leave them out, or train again."
            )
        absent = {0, *self._departed["user"]} - self._served.without_row
        missing = [token for token in tokens if known.get(token, 0) in absent]
        if missing:
            like = ", ".join(f"'{token}'" for token in self.tokens("user", range(1, 4)))
            raise DataError(
                f"{_some(missing)}: no such user in the dataset '{self.config['dataset']}' as the "
                f"run read it (its filters may have left them out). Users look like {like}."
            )
        ids = [int(known[token]) for token in tokens]
        cold = [token for token, user_id in zip(tokens, ids) if not self._can_rank(user_id)]
        if cold and self._reads_history(ids):
            raise DataError(
                f"{_some(cold)}: {self.config['model']} ranks by a user's interactions and has no "
                "user rows that profiles could fill, and these users have no interactions yet. "
                "Leave them out, or train a model with a row for each user, such as BPR."
            )
        if cold:
            raise DataError(
                f"{_some(cold)}: no training interactions, so this {self.config['model']} learned "
                "nothing about them. Leave them out."
            )
        return ids

    def all_user_ids(self) -> list[int]:
        """Return the internal ids of the users who can be ranked for."""
        return [user_id for user_id in range(1, self.dataset.user_num) if self._can_rank(user_id)]

    def all_item_ids(self) -> list[int]:
        """Return the internal ids of the items that can be recommended."""
        departed = self._departed["item"]
        return [item for item in range(1, self.dataset.item_num) if item not in departed]

    def _reads_history(self, user_ids: Sequence[int]) -> bool:
        """Tell whether a model that reads histories was asked for users who have only a profile."""
        profiled = self._served.without_row
        if self.inputs.is_sequential:
            profiled = profiled | self._served.from_profile.get("user", set())
        return not profiled.isdisjoint(user_ids)

    def _can_rank(self, user_id: int) -> bool:
        is_known = bool(self._known.indptr[user_id + 1] > self._known.indptr[user_id])
        if self.inputs.is_sequential:
            return is_known  # it reads the history, and has no user embedding
        if self._trained[user_id]:
            return True
        from_profile = user_id in self._served.from_profile.get("user", ())
        return from_profile and (is_known or not self.inputs.context_fields)

    def check_topk(self, topk: int) -> None:
        """Refuse lists longer than the catalogue.

        Raises
        ------
        ConfigError
            There are fewer than ``topk`` items.
        """
        if not 1 <= topk <= self.n_items:
            raise ConfigError(f"--topk={topk}: the catalogue has only {self.n_items} items.")

    @torch.no_grad()
    def rank(
        self, user_ids: Sequence[int], topk: int, allowed: Collection[str] | None = None
    ) -> Iterator[Ranked]:
        """Yield the best items of one batch of users after another.

        Parameters
        ----------
        user_ids : sequence of int
            Internal ids.
        topk : int
            Number of items; a user who knows nearly all of them gets the rest.
        allowed : collection of str, optional
            Tokens of the items to choose from; None means all.

        Raises
        ------
        ConfigError
            There are fewer than ``topk`` items.
        DataError
            The model's scores are not numbers.
        """
        self.check_topk(topk)
        excluded = self._excluded(allowed)
        with self._progress(len(user_ids), "Rank") as progress:
            for ids in self._batches(user_ids):
                values, items = (part.cpu() for part in self._best(ids, topk, excluded))
                listed = values != -np.inf
                lengths, items, values = listed.sum(1), items[listed], values[listed]
                yield Ranked(lengths.tolist(), items.tolist(), values.tolist())
                progress.update(len(ids))

    def _excluded(self, allowed: Collection[str] | None) -> torch.Tensor:
        """Return the ids that are never recommended: padding, departed items, items not allowed."""
        excluded = {0, *self._departed["item"]}
        if allowed is not None:
            ids = self.dataset.field2token_id[self.dataset.iid_field]
            kept = {int(ids[token]) for token in allowed if token in ids}
            excluded |= {*range(self.dataset.item_num)} - kept
        return torch.tensor(sorted(excluded))

    def _best(
        self, ids: npt.NDArray[np.int64], topk: int, excluded: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.scores(ids)
        device = scores.device
        scores.index_fill_(1, excluded.to(device), -np.inf)
        if not self.config["repeatable"]:
            rows, items = (torch.from_numpy(place) for place in self._known[ids].nonzero())
            scores[rows.to(device).long(), items.to(device).long()] = -np.inf
        values, items = top_k(scores, topk)
        if bool(values.isnan().any()):
            token = self.tokens("user", [ids[int(values.isnan().any(1).int().argmax())]])[0]
            raise DataError(
                f"The model's scores for user '{token}' are not numbers: its training diverged. "
                "Train it again with a smaller learning_rate."
            )
        return values, items

    def scores(self, ids: npt.NDArray[np.int64]) -> torch.Tensor:
        """Return the model's scores of all items for some users.

        Parameters
        ----------
        ids : ndarray of int64, shape (n_users,)
            Internal ids.

        Returns
        -------
        Tensor of float32, shape (n_users, item_num)
            On the run's device, the padding item included.
        """
        return self._scores(self.inputs.of(ids)).view(len(ids), -1).float()

    def _scores(self, users: Any) -> torch.Tensor:
        users = users.to(self.config["device"])
        try:
            scores: torch.Tensor = self.model.full_sort_predict(users)
            return scores
        except NotImplementedError:
            items = self.dataset.get_item_feature().to(self.config["device"])
        size = max(1, int(self.config["eval_batch_size"]))
        pairs = users.repeat_interleave(self.dataset.item_num)
        pairs.update(items.repeat(len(users)))
        parts = [pairs[start : start + size] for start in range(0, len(pairs), size)]
        return torch.cat([self.model.predict(part).view(-1) for part in parts])


def _some(tokens: Sequence[str]) -> str:
    more = f" and {len(tokens) - _SHOWN} more" if len(tokens) > _SHOWN else ""
    return "--users: " + ", ".join(f"'{token}'" for token in tokens[:_SHOWN]) + more
