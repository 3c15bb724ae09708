"""The ranking of all items for some users, as RecBole's full ranking makes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from logging import getLogger
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from recbole.data.interaction import Interaction, cat_interactions
from recbole.data.transform import construct_transform
from recbole.utils import FeatureSource, ModelType
from scipy.sparse import csr_matrix
from tqdm import tqdm

from recbole_llmkt.checkpoints import load_checkpoint
from recbole_llmkt.datasets.history import interaction_counts, plain_column
from recbole_llmkt.quick_start import load_data_and_model
from recbole_llmkt.transfer.methods.cold_start import filled_tables
from recbole_llmkt.utils.exceptions import ConfigError, DataError

logger = getLogger(__name__)

Ranked = list[tuple[int, float]]
_SHOWN = 5


class Ranker:
    """A trained model that ranks the whole catalogue for one user after the other.

    A user's known interactions are those of the training and the validation part: what the
    ranking of the test part stands on. Their items are left out, except where the run says
    ``repeatable`` (sequential models), as in RecBole's full ranking. Models without
    ``full_sort_predict`` score every pair. A sequential model continues the user's known history.
    What a context-aware model reads of an interaction itself (a time, a rating) is that of the
    user's last known one.

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
        config, model, _, train_data, valid_data, _ = load_data_and_model(
            model_file, config_dict, trust
        )
        self.config: Any = config
        self.model: Any = model.eval()
        self.dataset: Any = train_data._dataset
        loaders = (loader for loader in (train_data, valid_data) if loader is not None)
        self._parts = [loader._dataset for loader in loaders]
        users, items = (
            np.concatenate([part.inter_feat[field].numpy() for part in self._parts])
            for field in (self.dataset.uid_field, self.dataset.iid_field)
        )
        shape = (self.dataset.user_num, self.dataset.item_num)
        ones = np.ones(len(users), dtype=np.int32)
        self._known = csr_matrix((ones, (users, items)), shape=shape)
        self._users = users
        self._trained = interaction_counts(self.dataset)["user"] > 0
        self._sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
        self._context_fields = self._read_of_interactions()
        self._filled = _filled_users(model_file)
        self._departed = self._ids_of(getattr(self.dataset, "departed_tokens", {}))

    def _ids_of(self, tokens: Mapping[str, Sequence[str]]) -> dict[str, set[int]]:
        """Return internal ids of tokens by entity; of users and items alone."""
        fields = {"user": self.dataset.uid_field, "item": self.dataset.iid_field}
        return {
            entity: {
                int(self.dataset.field2token_id[name][token]) for token in tokens.get(name, ())
            }
            for entity, name in fields.items()
        }

    def _read_of_interactions(self) -> list[str]:
        """Return the fields of the interactions themselves that a context-aware model reads."""
        if self.config["MODEL_TYPE"] != ModelType.CONTEXT:
            return []
        fields = self.dataset.fields(source=[FeatureSource.INTERACTION])
        label = self.config["LABEL_FIELD"]
        read = [name for name in fields if name != label and name in self.dataset.inter_feat]
        if read:
            logger.info(
                "The model reads %s of an interaction: taken from each user's last known one.",
                ", ".join(read),
            )
        return read

    @property
    def n_items(self) -> int:
        """Number of items that can be recommended."""
        return int(self.dataset.item_num) - 1 - len(self._departed["item"])

    def tokens(self, entity: str, ids: Sequence[int]) -> list[str]:
        """Return the tokens of users or items by their internal ids."""
        field = self.dataset.uid_field if entity == "user" else self.dataset.iid_field
        return [str(token) for token in self.dataset.id2token(field, list(ids))]

    def user_ids(self, tokens: Sequence[str]) -> list[int]:
        """Return the internal ids of users.

        Raises
        ------
        DataError
            A user is not in the dataset, or the model has learned nothing about them.
        """
        known = self.dataset.field2token_id[self.dataset.uid_field]
        unknown = getattr(self.dataset, "unknown_tokens", {}).get(self.dataset.uid_field, ())
        new = [token for token in tokens if token in set(unknown)]
        if new:
            raise DataError(
                f"{_some(new)}: new since this {self.config['model']} was trained, so it has no "
                "row for them. Leave them out, or train again."
            )
        departed = self._departed["user"]
        missing = [token for token in tokens if known.get(token, 0) in {0, *departed}]
        if missing:
            like = ", ".join(f"'{token}'" for token in self.tokens("user", range(1, 4)))
            raise DataError(
                f"{_some(missing)}: no such user in the dataset '{self.config['dataset']}' as the "
                f"run read it (its filters may have left them out). Users look like {like}."
            )
        ids = [int(known[token]) for token in tokens]
        cold = [token for token, user_id in zip(tokens, ids) if not self._can_rank(user_id)]
        if cold:
            raise DataError(
                f"{_some(cold)}: users without training interactions, about whom this "
                f"{self.config['model']} has learned nothing. Leave them out."
            )
        return ids

    def all_user_ids(self) -> list[int]:
        """Return the internal ids of the users that can be ranked for."""
        return [user_id for user_id in range(1, self.dataset.user_num) if self._can_rank(user_id)]

    def _can_rank(self, user_id: int) -> bool:
        is_known = bool(self._known.indptr[user_id + 1] > self._known.indptr[user_id])
        if self._sequential:
            return is_known  # it reads what the user did last, and no embedding of the user
        if self._trained[user_id]:
            return True
        return user_id in self._filled and (is_known or not self._context_fields)

    @torch.no_grad()
    def rank(self, user_ids: Sequence[int], topk: int) -> Iterator[Ranked]:
        """Yield the best items of each user: (internal item id, score), the best one first.

        Parameters
        ----------
        user_ids : sequence of int
            Internal ids.
        topk : int
            How many items; a user who knows nearly all of them gets those that are left.

        Raises
        ------
        ConfigError
            There are fewer than ``topk`` items.
        DataError
            The model's scores are no numbers.
        """
        if topk > self.n_items:
            raise ConfigError(f"--topk={topk}: the catalogue has {self.n_items} items only.")
        step = max(1, self.config["eval_batch_size"] // self.dataset.item_num)
        with tqdm(total=len(user_ids), desc="Rank", unit="user", delay=2, leave=False) as progress:
            for start in range(0, len(user_ids), step):
                ids = np.array(user_ids[start : start + step], dtype=np.int64)
                values, items = torch.topk(self._masked_scores(ids), topk)
                for row_values, row_items in zip(values.tolist(), items.tolist()):
                    pairs = zip(row_items, row_values)
                    yield [(item, value) for item, value in pairs if value != -np.inf]
                progress.update(len(ids))

    def _masked_scores(self, ids: npt.NDArray[np.int64]) -> torch.Tensor:
        scores = self._scores(self._interactions(ids)).view(len(ids), -1).float().cpu()
        if scores.isnan().any():
            token = self.tokens("user", [ids[int(scores.isnan().any(1).int().argmax())]])[0]
            raise DataError(
                f"The model's scores for user '{token}' are not numbers: its training diverged. "
                "Train it again with a smaller learning_rate."
            )
        scores[:, [0, *self._departed["item"]]] = -np.inf
        if not self.config["repeatable"]:
            scores[self._known[ids].nonzero()] = -np.inf
        return scores

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

    # ---- what the model reads -----------------------------------------------------------------

    def _interactions(self, ids: npt.NDArray[np.int64]) -> Any:
        """Return a row for each user, with all that the model reads but the item."""
        if self._sequential:
            following = self._following(self._last_known(ids))
            return construct_transform(self.config)(self.dataset, following)
        users = self.dataset.join(Interaction({self.dataset.uid_field: torch.from_numpy(ids)}))
        if self._context_fields:
            last = self._last_known(ids)
            users.update(Interaction({field: last[field] for field in self._context_fields}))
        return users

    def _last_known(self, ids: npt.NDArray[np.int64]) -> Any:
        """Return each user's last row of the training and validation part."""
        last = self._last_positions()[ids]
        starts = np.cumsum([0, *(len(part) for part in self._parts)])
        places = np.searchsorted(starts, last, side="right") - 1
        rows = [
            self._parts[place][torch.tensor([position - starts[place]])]
            for place, position in zip(places, last)
        ]
        return cat_interactions(rows)

    def _last_positions(self) -> npt.NDArray[np.int64]:
        """Return for each user the latest known row, counted over both parts; -1 is none."""
        if not hasattr(self, "_latest"):
            time = self.dataset.time_field
            order = np.arange(len(self._users))
            if time is not None and time in self.dataset.inter_feat:
                times = np.concatenate(
                    [plain_column(part.inter_feat[time]) for part in self._parts]
                )
                order = np.argsort(times, kind="stable")
            self._latest = np.full(self.dataset.user_num, -1, dtype=np.int64)
            self._latest[self._users[order]] = order  # the last of several rows wins
        return self._latest

    def _following(self, rows: Any) -> Any:
        """Turn the last known rows of a sequential dataset into the rows that come after them."""
        suffix = self.config["LIST_SUFFIX"]
        length_field = self.dataset.item_list_length_field
        for field in [name for name in rows.columns if name + suffix in rows.columns]:
            lists, lengths = rows[field + suffix].clone(), rows[length_field]
            width = lists.shape[1]
            for row, length in enumerate(lengths.tolist()):
                if length == width:
                    lists[row] = lists[row].roll(-1, 0)
                lists[row, min(length, width - 1)] = rows[field][row]
            rows.update(Interaction({field + suffix: lists}))
        longest = rows[self.dataset.iid_field + suffix].shape[1]
        lengths = torch.clamp(rows[length_field] + 1, max=longest)
        rows.update(Interaction({length_field: lengths}))
        return rows


def _filled_users(model_file: str) -> set[int]:
    """Return the cold users whose embedding came from their profile (kt_cold_start)."""
    filled = filled_tables(load_checkpoint(model_file))
    users = (side["ids"] for side in filled if side["entity"] == "user")
    return {user_id for ids in users for user_id in ids.tolist()}


def _some(tokens: Sequence[str]) -> str:
    more = f" and {len(tokens) - _SHOWN} more" if len(tokens) > _SHOWN else ""
    return "--users: " + ", ".join(f"'{token}'" for token in tokens[:_SHOWN]) + more
