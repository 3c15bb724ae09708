"""What a model reads of a user when it ranks: their id, their history, their last interaction."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from recbole.data.interaction import Interaction, cat_interactions
from recbole.data.transform import construct_transform
from recbole.utils import FeatureSource, ModelType

from recbole_llmkt.datasets.history import plain_column
from recbole_llmkt.utils.types import Dataset, IntArray, RunConfig

logger = getLogger(__name__)


class Inputs:
    """Builds the rows that a model reads for users from their known interactions.

    Parameters
    ----------
    config : recbole_llmkt.config.Config
        The run's configuration.
    dataset : recbole.data.dataset.Dataset
        Its training split.
    parts : sequence of Dataset
        The splits that are known: training and validation.
    users : ndarray of int64, shape (n_interactions,)
        The user of each interaction, over all parts.

    Attributes
    ----------
    is_sequential : bool
        Whether the model continues a history, without an embedding of the user.
    context_fields : list of str
        Fields of the interactions themselves that a context-aware model reads.
    """

    def __init__(
        self, config: RunConfig, dataset: Dataset, parts: Sequence[Dataset], users: IntArray
    ) -> None:
        self._config, self._dataset = config, dataset
        self._parts, self._users = parts, users
        self.is_sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
        self.context_fields = self._read_of_interactions()

    def of(self, ids: npt.NDArray[np.int64]) -> Any:
        """Return a row for each user, with everything that the model reads except the item.

        Parameters
        ----------
        ids : ndarray of int64, shape (n_users,)
            Internal ids.

        Returns
        -------
        recbole.data.interaction.Interaction
            On the CPU.
        """
        if self.is_sequential:
            following = self._following(self._last_known(ids))
            return construct_transform(self._config)(self._dataset, following)
        users = self._dataset.join(Interaction({self._dataset.uid_field: torch.from_numpy(ids)}))
        if self.context_fields:
            last = self._last_known(ids)
            users.update(Interaction({field: last[field] for field in self.context_fields}))
        return users

    def _last_known(self, ids: npt.NDArray[np.int64]) -> Any:
        """Return each user's last row in the training and validation parts."""
        last = self._last_positions()[ids]
        starts = np.cumsum([0, *(len(part) for part in self._parts)])
        places = np.searchsorted(starts, last, side="right") - 1
        rows = [
            self._parts[place][torch.tensor([position - starts[place]])]
            for place, position in zip(places, last)
        ]
        return cat_interactions(rows)

    def _last_positions(self) -> npt.NDArray[np.int64]:
        """Return each user's latest known row, counted over both parts; -1 if there is none."""
        if not hasattr(self, "_latest"):
            time = self._dataset.time_field
            order = np.arange(len(self._users))
            if time is not None and time in self._dataset.inter_feat:
                times = np.concatenate(
                    [plain_column(part.inter_feat[time]) for part in self._parts]
                )
                order = np.argsort(times, kind="stable")
            self._latest = np.full(self._dataset.user_num, -1, dtype=np.int64)
            self._latest[self._users[order]] = order  # the last assignment wins
        return self._latest

    def _following(self, rows: Any) -> Any:
        """Turn the last known rows of a sequential dataset into the rows that follow them."""
        suffix = self._config["LIST_SUFFIX"]
        length_field = self._dataset.item_list_length_field
        for field in [name for name in rows.columns if name + suffix in rows.columns]:
            lists, lengths = rows[field + suffix].clone(), rows[length_field]
            width = lists.shape[1]
            for row, length in enumerate(lengths.tolist()):
                if length == width:
                    lists[row] = lists[row].roll(-1, 0)
                lists[row, min(length, width - 1)] = rows[field][row]
            rows.update(Interaction({field + suffix: lists}))
        longest = rows[self._dataset.iid_field + suffix].shape[1]
        lengths = torch.clamp(rows[length_field] + 1, max=longest)
        rows.update(Interaction({length_field: lengths}))
        return rows

    def _read_of_interactions(self) -> list[str]:
        """Return the fields of the interactions themselves that a context-aware model reads."""
        if self._config["MODEL_TYPE"] != ModelType.CONTEXT:
            return []
        fields = self._dataset.fields(source=[FeatureSource.INTERACTION])
        label = self._config["LABEL_FIELD"]
        read = [name for name in fields if name != label and name in self._dataset.inter_feat]
        if read:
            logger.info(
                "The model reads %s of an interaction: each user's last known values are used.",
                ", ".join(read),
            )
        return read
