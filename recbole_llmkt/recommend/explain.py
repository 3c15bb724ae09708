"""Reasons: the sentences of a user's profile that fit an item better than the rest of the list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger

import numpy as np
import numpy.typing as npt

from recbole_llmkt.profiles.embeddings import text_digest
from recbole_llmkt.profiles.encoders import Encoder, get_encoder
from recbole_llmkt.profiles.loading import stored_embeddings
from recbole_llmkt.profiles.locations import profile_folder
from recbole_llmkt.profiles.store import ProfileStore
from recbole_llmkt.recommend.sentences import sentences
from recbole_llmkt.utils.exceptions import ProfileError
from recbole_llmkt.utils.types import RunConfig

logger = getLogger(__name__)

Vectors = dict[str, npt.NDArray[np.float32]]

NONE_FITS = "no sentence fits this item better than the others in the list"
# A sentence fits an item if its cosine exceeds the mean of the other items' by this much.
LEAST_MARGIN = 0.02


@dataclass(frozen=True)
class Reason:
    """A sentence of a user's profile that fits an item's profile.

    Attributes
    ----------
    sentence : str
        Of the user's profile.
    cosine : float
        Of the two embeddings, from -1 to 1.
    margin : float or None
        How far that is above the mean of the other items in the list; None if there are no
        others.
    """

    sentence: str
    cosine: float
    margin: float | None = None


@dataclass(frozen=True)
class Explanation:
    """Why an item may fit a user, going by their profiles.

    Attributes
    ----------
    reasons : tuple of Reason
        The best sentence first; empty where a profile is missing or no sentence fits.
    note : str or None
        Which profile is missing, or that no sentence fits.
    """

    reasons: tuple[Reason, ...] = ()
    note: str | None = None


class Explainer:
    """Finds reasons in the profiles of a run.

    It matches texts after the ranking, and says nothing about what the model computed. A sentence
    that names many things is close to every item, so what counts is how much closer an item's
    profile is to it than the profiles of the other items in the list.

    Parameters
    ----------
    config : recbole_llmkt.config.Config
        Its ``profile_*`` keys say where the profiles are and which encoder to use. Stored item
        vectors are reused.
    n_reasons : int
        Sentences for each item.
    """

    def __init__(self, config: RunConfig, n_reasons: int = 1) -> None:
        self._config = config
        self._n_reasons = n_reasons
        self._stores = {entity: _store(config, entity) for entity in ("user", "item")}
        self._texts = {entity: _texts(store) for entity, store in self._stores.items()}
        self._encoder: Encoder | None = None
        self._items = self._stored_item_vectors()

    def _stored_item_vectors(self) -> Vectors:
        """Return the stored vectors, by the digest of their text."""
        store = self._stores["item"]
        stored = stored_embeddings(self._config, store) if store is not None else None
        return {} if stored is None else dict(zip(stored.texts, stored.vectors))

    def explain(self, recommended: Mapping[str, Sequence[str]]) -> dict[str, list[Explanation]]:
        """Return an explanation for each item that was recommended to each user.

        Parameters
        ----------
        recommended : mapping of str to sequence of str
            Item tokens by user token. Each sentence and each profile is encoded once.

        Returns
        -------
        dict of str to list of Explanation
            By user token, in the order of the items.

        Raises
        ------
        ProfileError
            The encoder is not available, or its vectors are not as wide as the stored ones.
        """
        texts = self._texts["item"]
        split = {user: self._sentences(user) for user in recommended}
        pairs = [(user, item) for user, items in recommended.items() for item in items]
        both = [(user, item) for user, item in pairs if split[user] and item in texts]
        parts = [part for user in dict(both) for part in split[user]]
        vectors = self._encode(parts, [texts[item] for _, item in both])
        return {
            user: self._explanations(split[user], [texts.get(item) for item in items], vectors)
            for user, items in recommended.items()
        }

    def _sentences(self, user: str) -> list[str]:
        return list(dict.fromkeys(sentences(self._texts["user"].get(user, ""))))

    def _encode(self, parts: Iterable[str], items: Iterable[str]) -> Vectors:
        """Return the vector of each sentence by its text, and keep the items' vectors."""
        texts = list(dict.fromkeys(parts))
        digests = {text_digest(text): text for text in items}
        new = [digest for digest in digests if digest not in self._items]
        if not texts:
            return {}
        self._encoder = self._encoder or get_encoder(self._config)
        made = self._encoder.encode([*texts, *(digests[digest] for digest in new)])
        self._items.update(zip(new, made[len(texts) :]))
        widths = {len(self._items[digest]) for digest in digests} | {made.shape[1]}
        if len(widths) > 1:
            raise ProfileError(
                f"'{self._encoder.name}' now makes vectors of width {made.shape[1]}, but the "
                f"stored ones have {sorted(widths - {made.shape[1]})}: run `llmkt profile embed` "
                "again."
            )
        return dict(zip(texts, made))

    def _explanations(
        self, parts: Sequence[str], items: Sequence[str | None], vectors: Vectors
    ) -> list[Explanation]:
        """Explain the items of one user's list, by their texts."""
        described = [row for row, item in enumerate(items) if parts and item is not None]
        explained = [Explanation(note=_missing(parts, item)) for item in items]
        if not described:
            return explained
        targets = np.stack([self._item_vector(str(items[row])) for row in described])
        cosines = targets @ np.stack([vectors[part] for part in parts]).T
        margins = _margins(cosines)
        for place, row in enumerate(described):
            explained[row] = self._explanation(parts, cosines[place], margins, place)
        return explained

    def _item_vector(self, text: str) -> npt.NDArray[np.float32]:
        # Stored vectors may have half precision, and imported ones any length.
        vector = np.asarray(self._items[text_digest(text)], dtype=np.float32)
        unit: npt.NDArray[np.float32] = vector / np.maximum(
            np.linalg.norm(vector), np.finfo(np.float32).tiny
        )
        return unit

    def _explanation(
        self,
        parts: Sequence[str],
        cosines: npt.NDArray[np.float32],
        margins: npt.NDArray[np.float32] | None,
        place: int,
    ) -> Explanation:
        by = cosines if margins is None else margins[place]
        order = np.argsort(-by, kind="stable")[: self._n_reasons]
        if margins is None:
            return Explanation(tuple(Reason(parts[n], float(cosines[n])) for n in order))
        fitting = [n for n in order if by[n] >= LEAST_MARGIN]
        reasons = (Reason(parts[n], float(cosines[n]), float(by[n])) for n in fitting)
        return Explanation(tuple(reasons), None if fitting else NONE_FITS)


def _missing(parts: Sequence[str], item: str | None) -> str | None:
    missing = [name for name, has in (("user", parts), ("item", item)) if not has]
    return f"no profile of this {' and this '.join(missing)}" if missing else None


def _margins(cosines: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
    """Return each cosine minus the mean of the other items', shape (n_items, n_sentences).

    None if there are no other items.
    """
    n_items = len(cosines)
    if n_items < 2:
        return None
    others = (cosines.sum(axis=0) - cosines) / np.float32(n_items - 1)
    margins: npt.NDArray[np.float32] = cosines - others
    return margins


def _store(config: RunConfig, entity: str) -> ProfileStore | None:
    try:
        return ProfileStore(profile_folder(config, entity), entity)
    except ProfileError as error:
        logger.warning("No reasons can be given: %s", error)
        return None


def _texts(store: ProfileStore | None) -> dict[str, str]:
    profiles = {} if store is None else store.read()
    return {token: profile.text for token, profile in profiles.items() if profile.usable}
