"""Profiles for a training run: joined by token, checked against the run's training split."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from recbole.utils import ModelType

from recbole_llmkt.datasets.history import interaction_counts, training_histories
from recbole_llmkt.keys.combinations import parts_of
from recbole_llmkt.profiles.embeddings import (
    Embeddings,
    build_embeddings,
    read_embeddings,
    text_digest,
)
from recbole_llmkt.profiles.encoders import get_encoder
from recbole_llmkt.profiles.index import DigestArray, ProfileIndex, digest_of_lines
from recbole_llmkt.profiles.locations import embedding_home, profile_folder
from recbole_llmkt.profiles.store import Profile, ProfileStore, read_manifest
from recbole_llmkt.utils.exceptions import LeakError, ProfileError
from recbole_llmkt.utils.randomness import isolated_randomness
from recbole_llmkt.utils.text import flow_yaml, one_line
from recbole_llmkt.utils.types import Dataset, IntArray, RunConfig, Settings

logger = logging.getLogger(__name__)

_BLOCK = 65_536  # vectors at once


@dataclass(frozen=True)
class ProfileVectors:
    """Profile embeddings of one kind of entity, in RecBole's ids.

    Attributes
    ----------
    entity : str
        ``"user"`` or ``"item"``.
    ids : ndarray of int64, shape (n_profiles,)
        RecBole's internal ids, ascending, without the padding id 0.
    vectors : ndarray of float32, shape (n_profiles, dim_text)
        L2-normalised profile embeddings; row i belongs to ``ids[i]``.
    n_entities : int
        Number of internal ids, the padding id included.
    encoder, generator : str
        What made the vectors and the texts.
    n_leaks : int
        Profiles written from other interactions than this training split (0 unless
        ``profile_allow_leak: True``).
    home : Path or None
        A folder for what is made from the vectors; None keeps it in memory.
    texts : str
        :func:`texts_digest` of the folder's profiles.
    """

    entity: str
    ids: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    n_entities: int
    encoder: str
    generator: str
    n_leaks: int = 0
    home: Path | None = None
    texts: str = ""

    @property
    def coverage(self) -> float:
        """Share of the entities (padding left out) that have a profile."""
        return len(self.ids) / max(1, self.n_entities - 1)

    def described(self) -> ProfileVectors:
        """Return the same without vectors, for what has made its own of them.

        They are the widest table of a run: 1.5 KB a user from an encoder 384 wide.
        """
        return replace(self, vectors=np.zeros((0, self.vectors.shape[1]), np.float32))

    def summary(self) -> Settings:
        """Describe them in plain values, for logs, results and checkpoints."""
        return {
            "entity": self.entity,
            "profiles": len(self.ids),
            "coverage": self.coverage,
            "leaks": self.n_leaks,
            "encoder": self.encoder,
            "generator": self.generator,
            "texts": self.texts,
        }


class RunProfiles:
    """The profiles of one run, read once for each entity and shared by all that use them.

    Parameters
    ----------
    config : recbole_llmkt.config.Config
        The run's configuration.
    train_dataset : recbole.data.dataset.Dataset
        The run's training split (``train_data._dataset``).
    """

    def __init__(self, config: RunConfig, train_dataset: Dataset) -> None:
        self._config, self._train_dataset = config, train_dataset
        self._read: dict[str, ProfileVectors] = {}
        self._trained: dict[str, IntArray] = {}

    def of(self, entity: str) -> ProfileVectors:
        """Return the profile embeddings of ``user`` or ``item``: see :func:`load_profiles`."""
        if entity not in self._read:
            self._read[entity] = load_profiles(self._config, self._train_dataset, entity)
        return self._read[entity]

    def forget(self) -> None:
        """Release the vectors: whoever asks again reads them again."""
        self._read.clear()

    def trained_ids(self, entity: str) -> IntArray:
        """Return the internal ids that occur in the training split, ascending, shape (n,)."""
        if not self._trained:
            counts = interaction_counts(self._train_dataset)
            self._trained = {name: np.flatnonzero(count) for name, count in counts.items()}
        return self._trained[entity]


def load_profiles(
    config: RunConfig, train_dataset: Dataset, entity: str, training: bool = True
) -> ProfileVectors:
    """Load the profile embeddings of a run's users or items.

    Parameters
    ----------
    config : recbole_llmkt.config.Config
        Its ``profile_*`` keys say where the profiles are and which encoder reads them. Vectors
        that are missing, or older than their text, are made.
    train_dataset : recbole.data.dataset.Dataset
        The run's training split (``train_data._dataset``): its ids are joined by token, and user
        profiles must have been written from exactly its interactions.
    entity : str
        ``"user"`` or ``"item"``.
    training : bool
        Whether a model is to learn from them. Afterwards, to recommend, user profiles may tell
        of any interactions.

    Returns
    -------
    ProfileVectors

    Raises
    ------
    LeakError
        User profiles were written from other interactions, and ``profile_allow_leak`` is off.
    ProfileError
        There are no profiles, none belongs to this dataset, or their vectors are unusable.
    """
    store, index, ids, n_leaks = _usable(config, train_dataset, entity, training)
    embeddings, rows = _embeddings(config, store, index)
    loaded = ProfileVectors(
        entity=entity,
        ids=ids,
        vectors=_normalised(embeddings, rows[ids]),
        n_entities=train_dataset.num(_field(train_dataset, entity)),
        encoder=embeddings.encoder,
        generator=index.writers(ids),
        n_leaks=n_leaks,
        home=embedding_home(store.folder),
        texts=index.texts_digest(),
    )
    _log(loaded, store)
    return loaded


def check_learnable(config: RunConfig, train_dataset: Dataset, entity: str) -> None:
    """Check that a run may learn from its users' or items' profiles, without their vectors.

    Parameters and errors are those of :func:`load_profiles`.
    """
    _usable(config, train_dataset, entity, training=True)


def _field(train_dataset: Dataset, entity: str) -> str:
    field: str = train_dataset.uid_field if entity == "user" else train_dataset.iid_field
    return field


def _usable(
    config: RunConfig, train_dataset: Dataset, entity: str, training: bool
) -> tuple[ProfileStore, ProfileIndex, IntArray, int]:
    """Return the profiles, the ids that have a usable one, and how many of these are leaks."""
    store = ProfileStore(profile_folder(config, entity), entity)
    field = _field(train_dataset, entity)
    tokens = np.asarray(train_dataset.field2id_token[field])
    index = ProfileIndex.read(store, tokens, train_dataset.field2token_id[field])
    if not len(index.ids):
        raise ProfileError(_no_coverage(store, index))
    if training:
        return (store, index, *_checked(config, train_dataset, index, store))
    return store, index, index.ids, 0


def _checked(
    config: RunConfig, train_dataset: Dataset, index: ProfileIndex, store: ProfileStore
) -> tuple[IntArray, int]:
    """Return the ids whose profiles may be learned from, and how many of them are leaks."""
    ids = index.ids
    digests = training_histories(train_dataset).digest_numbers() if store.entity == "user" else None
    if not config["profile_allow_leak"] and digests is not None:
        ids = _without_absent(index, ids, digests)
    return ids, _check_leaks(config, digests, index, ids, store)


def _log(loaded: ProfileVectors, store: ProfileStore) -> None:
    logger.info(
        "%s profiles from %s: %d of %d %ss have one (%.1f%%); written by %s, encoded by %s.",
        loaded.entity.capitalize(),
        store.path,
        len(loaded.ids),
        loaded.n_entities - 1,
        loaded.entity,
        100 * loaded.coverage,
        loaded.generator,
        loaded.encoder,
    )


def texts_digest(profiles: Iterable[Profile]) -> str:
    """Return a digest of ids and texts, whatever their order: blake2b, 8 bytes, hex."""
    return digest_of_lines(f"{profile.id} {text_digest(profile.text)}" for profile in profiles)


def _no_coverage(store: ProfileStore, index: ProfileIndex) -> str:
    if not index.others:
        return f"{store.path} holds no usable profile: run `llmkt profile --retry-failed`."
    return (
        f"None of the {len(index)} profiles in {store.path} belongs to a {store.entity} of "
        f"this dataset: their ids look like '{next(iter(index.others))}', the dataset's like "
        f"'{index.tokens[-1]}'. Name the folder of this dataset's profiles with profile_dir."
    )


def _without_absent(index: ProfileIndex, ids: IntArray, digests: DigestArray) -> IntArray:
    """Leave out users without training interactions whose profile was written from some.

    `llmkt profile` cannot replace such a profile: there is no history to write it from.
    """
    absent = index.absent(ids, digests)
    if absent.any():
        logger.warning(
            "%d users without training interactions have a profile from other ones, such as that "
            "of '%s': it is left out, because it may know the test data.",
            absent.sum(),
            min(index.tokens[ids[absent]]),
        )
    return ids[~absent]


def _check_leaks(
    config: RunConfig,
    digests: DigestArray | None,
    index: ProfileIndex,
    ids: IntArray,
    store: ProfileStore,
) -> int:
    """Compare what the profiles were written from with the training split; return mismatches."""
    leaks = ids[index.outdated(ids, digests)]
    if not len(leaks):
        return 0
    example = index.tokens[leaks[0]]
    if not any(parts_of(config).values()):
        logger.warning(
            "%d of %d %s profiles in %s were written from other interactions than there are today, "
            "that of %s '%s' for one. Nothing is held out that they could know, so they are used; "
            "`llmkt profile` with the same eval_args renews them.",
            len(leaks),
            len(ids),
            store.entity,
            store.path,
            store.entity,
            example,
        )
        return 0
    message = (
        f"{len(leaks)} of {len(ids)} {store.entity} profiles in {store.path} were not written "
        f"from this run's training interactions ({store.entity} '{example}')"
    )
    if not config["profile_allow_leak"]:
        raise LeakError(
            f"{message}{_needed(config)}, and may know the test data: {_own_split(store, config)}"
            f"write others with `llmkt profile --dataset={config['dataset']} "
            f"--model={config['model']}` and this run's settings{_of_edits(index, leaks)}, or set "
            "profile_allow_leak: True (red in reports)."
        )
    logger.warning(
        "%s, and may know the test data: used because of profile_allow_leak: True.", message
    )
    return len(leaks)


def _needed(config: RunConfig) -> str:
    """Return which history the profiles of a sequential model must be written from."""
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        return ""
    return f", which for {config['model']} end with a user's last training sequence"


def _own_split(store: ProfileStore, config: RunConfig) -> str:
    """Return the split that the profiles belong to, where the manifest names another one."""
    own = read_manifest(Path(store.path).parent).get("eval_args")
    here = config["eval_args"]
    if not isinstance(own, dict) or all(here.get(name) == value for name, value in own.items()):
        return ""
    return f"set their own split (eval_args: {one_line(flow_yaml(own))}), "


def _of_edits(index: ProfileIndex, leaks: IntArray) -> str:
    edited = index.edited[leaks].sum()
    return f" (and --overwrite-edits: {edited} of them were edited manually)" if edited else ""


def _embeddings(
    config: RunConfig, store: ProfileStore, index: ProfileIndex
) -> tuple[Embeddings, IntArray]:
    """Read the vectors of the configured encoder, or make those that are missing or stale.

    Returns
    -------
    embeddings : Embeddings
        The vectors.
    rows : ndarray of int64, shape (n_entities,)
        Which of them is whose.
    """
    stored = stored_embeddings(config, store)
    if stored is not None and (rows := index.rows_of(stored)) is not None:
        return stored, rows
    dtype = "float32" if stored is None else str(stored.vectors.dtype)
    with isolated_randomness():  # loading a model draws random numbers
        built = build_embeddings(store, get_encoder(config), embedding_home(store.folder), dtype)
    rows = index.rows_of(built)
    if rows is None:
        raise ProfileError(f"{store.path} has changed while it was read: start again.")
    return built, rows


def stored_embeddings(config: RunConfig, store: ProfileStore) -> Embeddings | None:
    """Return the vectors of the configured encoder, up to date or not.

    Those in the cache go first: they are made only where the ones beside the profiles do not fit.
    Damaged ones in the cache count as missing, with a warning; beside the profiles they may be the
    only ones, so there they are an error.
    """
    for home in dict.fromkeys([embedding_home(store.folder), store.folder]):
        try:
            stored = read_embeddings(home, config["profile_encoder"], store.entity)
        except ProfileError as error:
            if home == store.folder:
                raise
            logger.warning("Vectors in the cache are encoded again. %s", error)
            continue
        if stored is not None:
            return stored
    return None


def _normalised(embeddings: Embeddings, rows: IntArray) -> npt.NDArray[np.float32]:
    normalised = np.empty((len(rows), embeddings.vectors.shape[1]), np.float32)
    for start in range(0, len(rows), _BLOCK):  # never a second table in memory
        block = rows[start : start + _BLOCK]
        vectors = embeddings.vectors[block].astype(np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not norms.all():
            token = embeddings.ids[block[int(np.argmin(norms))]]
            raise ProfileError(
                f"The profile embedding of '{token}' by {embeddings.encoder} has length 0: correct "
                "its text with `llmkt profile edit`, or choose another profile_encoder."
            )
        np.divide(vectors, norms, out=normalised[start : start + len(block)])
    return normalised
