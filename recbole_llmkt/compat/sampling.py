"""RecBole's sampling of negatives, without a Python set for each user and part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
import numpy.typing as npt
import torch
from recbole.sampler import Sampler

from recbole_llmkt.utils.types import Array

if TYPE_CHECKING:
    IntArray = npt.NDArray[np.int64]

# Pairs of user and item up to which each has a byte of its own: 64 MiB.
_TABLE = 2**26


class UsedIds:
    """The items of each user up to a phase, read like RecBole's array of sets.

    All phases share one sorted array: a pair of user and item is a number, that of the first phase
    it is in included.

    Parameters
    ----------
    pairs : numpy.ndarray of int64
        Sorted, ``(user * n_items + item) * n_phases + phase``, each pair of user and item once.
    sizes : tuple of int
        Numbers of users, items and phases.
    phase : int
        Pairs of later phases are left out.
    table : numpy.ndarray of uint8, optional
        The first phase of every pair of user and item, ``n_phases`` where there is none: a look at
        it is several times faster than a search in ``pairs``.
    """

    def __init__(
        self,
        pairs: IntArray,
        sizes: tuple[int, int, int],
        phase: int,
        table: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        self._pairs, self._table = pairs, table
        self._n_users, self._n_items, self._n_phases = sizes
        self._phase = phase

    def __len__(self) -> int:
        return self._n_users

    def __iter__(self) -> Iterator[set[int]]:
        return (self[user] for user in range(len(self)))

    @overload
    def __getitem__(self, users: int | None) -> set[int]: ...
    @overload
    def __getitem__(self, users: Sequence[int] | IntArray) -> list[set[int]]: ...
    def __getitem__(
        self, users: int | Sequence[int] | IntArray | None
    ) -> set[int] | list[set[int]]:
        if users is None:  # FullSortEvalDataLoader asks before the first user, and drops the answer
            return set()
        if np.ndim(users):
            return [self[user] for user in np.asarray(users).tolist()]
        user = range(len(self))[int(users)]  # type: ignore[arg-type]
        width = self._n_items * self._n_phases
        start, end = np.searchsorted(self._pairs, [user * width, (user + 1) * width])
        pairs, phases = np.divmod(self._pairs[start:end], self._n_phases)
        return set((pairs[phases <= self._phase] % self._n_items).tolist())

    def contain(self, users: IntArray, items: IntArray) -> npt.NDArray[np.bool_]:
        """Tell of pairs of user and item whether they are here.

        Parameters
        ----------
        users, items : numpy.ndarray of int64
            As long as each other.

        Raises
        ------
        IndexError
            There is no such user.
        """
        if len(users) and not (np.min(users) >= 0 and np.max(users) < len(self)):
            raise IndexError("user out of range")
        if not len(self._pairs):
            return np.zeros(len(users), dtype=bool)
        if self._table is not None:
            first: npt.NDArray[np.uint8] = self._table[users * self._n_items + items]
            return first <= self._phase
        sought = (users * self._n_items + items) * self._n_phases
        places = np.searchsorted(self._pairs, sought)
        # The pair's own number is at most that of this phase; any other pair's is greater.
        found = self._pairs[np.minimum(places, len(self._pairs) - 1)] - sought
        return (found >= 0) & (found <= self._phase)


class CompactSampler(Sampler):  # type: ignore[misc]
    """RecBole's sampler of negatives: the same draws, checked for all users at once.

    ``Sampler.get_used_ids`` in ``recbole/sampler/sampler.py`` makes a set a user and phase, several
    hundred bytes each, and ``sample_by_key_ids`` looks into them one by one.
    """

    used_ids: UsedIds

    def get_used_ids(self) -> dict[str, UsedIds]:
        """Return the items of each user up to each phase.

        Raises
        ------
        ValueError
            A user has all items.
        """
        n_phases = len(self.phases)
        parts = []
        for phase, dataset in enumerate(self.datasets):
            users, items = (
                dataset.inter_feat[field].numpy() for field in (self.uid_field, self.iid_field)
            )
            pairs = users.astype(np.int64) * self.item_num
            pairs += items
            pairs *= n_phases
            pairs += phase
            parts.append(pairs)
        pairs = _first_of_each(np.concatenate(parts), n_phases)
        width = self.item_num * n_phases
        ends = np.searchsorted(pairs, np.arange(self.user_num + 1) * width)
        if (np.diff(ends) + 1 == self.item_num).any():  # [PAD] is an item
            raise ValueError(
                "Some users have interacted with all items, "
                "which we can not sample negative items for them. "
                "Please set `user_inter_num_interval` to filter those users."
            )
        sizes = (self.user_num, self.item_num, n_phases)
        table = None
        if self.user_num * self.item_num <= _TABLE:
            table = np.full(self.user_num * self.item_num, n_phases, dtype=np.uint8)
            table[pairs // n_phases] = pairs % n_phases
        return {name: UsedIds(pairs, sizes, phase, table) for phase, name in enumerate(self.phases)}

    def sample_by_key_ids(self, key_ids: Array | Sequence[int], num: int) -> torch.Tensor:
        """Draw items that their users do not have, as RecBole does.

        Parameters
        ----------
        key_ids : numpy.ndarray or sequence of int
            The users.
        num : int
            Items for each of them.

        Returns
        -------
        torch.Tensor of int64
            An item for each user, then the next one for each, and so on.
        """
        users = np.tile(np.asarray(key_ids, dtype=np.int64), num)
        items = np.zeros(len(users), dtype=np.int64)
        to_draw = np.arange(len(users))
        while len(to_draw):
            items[to_draw] = drawn = self.sampling(len(to_draw))
            to_draw = to_draw[self.used_ids.contain(users[to_draw], drawn)]
        return torch.from_numpy(items)


def _first_of_each(pairs: IntArray, n_phases: int) -> IntArray:
    """Sort pairs, and leave each in the first of its phases alone."""
    pairs.sort()
    without_phase = pairs // n_phases
    is_first = np.ones(len(pairs), dtype=bool)
    np.not_equal(without_phase[1:], without_phase[:-1], out=is_first[1:])
    del without_phase
    return pairs if is_first.all() else pairs[is_first]
