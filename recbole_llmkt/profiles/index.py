"""What a training run needs of each profile, as numbers by RecBole's ids."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from recbole_llmkt.datasets.history import history_digest
from recbole_llmkt.profiles.embeddings import Embeddings, text_digest
from recbole_llmkt.profiles.store import ProfileStore
from recbole_llmkt.utils.types import Array, IntArray

DigestArray = npt.NDArray[np.uint64]
BoolArray = npt.NDArray[np.bool_]

# What a profile was written from: nothing, interactions with a digest, something that has none.
_NO_HISTORY, _DIGEST, _OTHER = range(3)
_DIGITS = re.compile("[0-9a-f]{16}")


@dataclass
class ProfileIndex:
    """The usable profiles of one kind of entity, without their texts: 22 bytes each.

    A profile as an object takes a hundred times as much, which millions of users have no room
    for.

    Attributes
    ----------
    tokens : ndarray of str, shape (n_entities,)
        The dataset's tokens by RecBole's internal id; id 0 is the padding.
    ids_by_token : mapping of str to int
        The same, the other way round.
    usable, edited : ndarray of bool, shape (n_entities,)
        Whether there is a profile; whether a person corrected it.
    texts, histories : ndarray of uint64, shape (n_entities,)
        Digests of the texts, and of the interactions they were written from.
    history_kinds : ndarray of int8, shape (n_entities,)
        Whether there is such a digest.
    origins : ndarray of int32, shape (n_entities,)
        Who wrote it: a position in ``origin_names``.
    origin_names : dict of str to int
        Generator and model.
    others : dict of str to int
        Digests of the texts of profiles that belong to no entity of the dataset, by token.
    """

    tokens: Array
    ids_by_token: Mapping[str, int]
    usable: BoolArray
    edited: BoolArray
    texts: DigestArray
    histories: DigestArray
    history_kinds: npt.NDArray[np.int8]
    origins: npt.NDArray[np.int32]
    origin_names: dict[str, int] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(
        cls, store: ProfileStore, tokens: Array, ids_by_token: Mapping[str, int]
    ) -> ProfileIndex:
        """Read a store line by line; the last line of an id counts.

        Parameters
        ----------
        store : ProfileStore
            The profiles.
        tokens, ids_by_token
            See the attributes.

        Raises
        ------
        ProfileError
            A line is no profile.
        """
        n = len(tokens)
        index = cls(
            tokens,
            ids_by_token,
            usable=np.zeros(n, bool),
            edited=np.zeros(n, bool),
            texts=np.zeros(n, np.uint64),
            histories=np.zeros(n, np.uint64),
            history_kinds=np.zeros(n, np.int8),
            origins=np.zeros(n, np.int32),
        )
        for profile in store.scan():
            number = ids_by_token.get(profile.id, 0)
            if number == 0:
                index.others.pop(profile.id, None)
                if profile.usable:
                    index.others[profile.id] = int(text_digest(profile.text), 16)
                continue
            index.usable[number] = profile.usable
            index.edited[number] = profile.edited
            index.texts[number] = int(text_digest(profile.text), 16)
            digest = _number(profile.history or "")
            index.histories[number] = digest or 0
            index.history_kinds[number] = (
                _NO_HISTORY if profile.history is None else _OTHER if digest is None else _DIGEST
            )
            origin = f"{profile.generator}:{profile.model}".rstrip(":")
            index.origins[number] = index.origin_names.setdefault(origin, len(index.origin_names))
        return index

    @property
    def ids(self) -> IntArray:
        """Internal ids of the entities with a profile, ascending."""
        return np.flatnonzero(self.usable)

    def __len__(self) -> int:
        return int(self.usable.sum()) + len(self.others)

    def absent(self, ids: IntArray, digests: DigestArray) -> BoolArray:
        """Tell which profiles were written from interactions of users who have none today."""
        nothing = np.uint64(int(history_digest([]), 16))
        from_nothing = (self.history_kinds[ids] == _DIGEST) & (self.histories[ids] == nothing)
        absent: BoolArray = (digests[ids] == nothing) & ~from_nothing
        return absent

    def outdated(self, ids: IntArray, digests: DigestArray | None) -> BoolArray:
        """Tell which profiles were not written from today's training interactions.

        Parameters
        ----------
        ids : ndarray of int64, shape (n,)
            Internal ids of entities with a profile.
        digests : ndarray of uint64, shape (n_entities,), or None
            Digest of each user's training history; None for items, whose profiles rest on none.

        Returns
        -------
        ndarray of bool, shape (n,)
        """
        kinds = self.history_kinds[ids]
        late: BoolArray = (
            kinds != _NO_HISTORY
            if digests is None
            else (kinds != _DIGEST) | (self.histories[ids] != digests[ids])
        )
        return late

    def writers(self, ids: IntArray) -> str:
        """Name the generators and models of profiles."""
        names = list(self.origin_names)
        return ", ".join(sorted({names[number] for number in np.unique(self.origins[ids])}))

    def rows_of(self, embeddings: Embeddings) -> IntArray | None:
        """Return the row of each entity's vector, shape (n_entities,), -1 where there is none.

        None where the vectors are not those of exactly these profiles and texts.
        """
        rows = np.full(len(self.tokens), -1, dtype=np.int64)
        others = {}
        for row, (token, text) in enumerate(zip(embeddings.ids, embeddings.texts)):
            number = self.ids_by_token.get(token, 0)
            if number:
                rows[number] = row
            else:
                others[token] = _number(text)
        if others != self.others or not np.array_equal(rows >= 0, self.usable):
            return None
        fits = all(
            _number(embeddings.texts[row]) == digest
            for row, digest in zip(rows[self.ids].tolist(), self.texts[self.ids].tolist())
        )
        return rows if fits else None

    def texts_digest(self) -> str:
        """See :func:`digest_of_lines`."""
        known = zip(self.tokens[self.ids], self.texts[self.ids].tolist())
        texts = itertools.chain(known, self.others.items())
        return digest_of_lines(f"{token} {text:016x}" for token, text in texts)


def digest_of_lines(lines: Iterable[str]) -> str:
    """Return a digest of ids and texts, whatever their order: blake2b, 8 bytes, hex.

    Parameters
    ----------
    lines : iterable of str
        An id, a blank and the digest of its text.
    """
    return text_digest("\n".join(sorted(lines)))


def _number(digest: str) -> int | None:
    """Return a digest of 16 hexadecimal digits as a number, and None for anything else."""
    return int(digest, 16) if _DIGITS.fullmatch(digest) else None
