"""Profiles and embeddings as RecBole atomic files, and back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recbole_llmkt.datasets.atomic import AtomicFile, value_of, write_atomic_file
from recbole_llmkt.profiles.embeddings import Embeddings, write_embeddings
from recbole_llmkt.profiles.external import external_profiles
from recbole_llmkt.profiles.store import Profile, ProfileStore, longest_text, too_long, utc_now
from recbole_llmkt.utils.exceptions import DataError, ProfileError
from recbole_llmkt.utils.text import one_line, printable
from recbole_llmkt.utils.types import RunConfig

logger = logging.getLogger(__name__)

# RecBole knows a column by its name alone, so the ids of an additional file need another name.
_ID = {"user": "uid", "item": "iid"}
_COLUMNS = ("history", "generator", "model", "prompt", "time")


def profile_path(folder: str | Path, dataset: str, entity: str) -> Path:
    """Return ``<folder>/<dataset>.userprof`` (or ``.itemprof``)."""
    return Path(folder) / f"{dataset}.{entity}prof"


def embedding_path(folder: str | Path, dataset: str, entity: str) -> Path:
    """Return ``<folder>/<dataset>.useremb`` (or ``.itememb``)."""
    return Path(folder) / f"{dataset}.{entity}emb"


def export_profiles(store: ProfileStore, path: Path, config: RunConfig) -> int:
    """Write the usable profiles as an atomic file, and return their number.

    The columns are ``uid:token`` (``iid`` for items), ``profile:token_seq`` and where each
    profile comes from. Ids stay as they are; line breaks and tabs in a text become spaces.
    """
    header = [f"{_ID[store.entity]}:token", "profile:token_seq"]
    header += [f"{name}:token" for name in _COLUMNS]
    profiles = store.usable()
    if not profiles:
        raise ProfileError(f"There is no profile in {store.path}: run `llmkt profile` first.")
    rows = []
    for profile in profiles:
        values = asdict(profile)
        origin = [values[name] or "" for name in _COLUMNS]
        rows.append([profile.id, config["seq_separator"].join(profile.text.split()), *origin])
    write_atomic_file(path, header, rows, config)
    return len(rows)


def export_embeddings(embeddings: Embeddings, entity: str, path: Path, config: RunConfig) -> int:
    """Write vectors as an atomic file of ``uid:token`` and ``user_emb:float_seq``.

    RecBole loads it as ``additional_feat_suffix: [useremb]``.
    """
    header = [f"{_ID[entity]}:token", f"{entity}_emb:float_seq"]
    separator = config["seq_separator"]
    vectors = embeddings.vectors.astype(np.float32)
    rows = (
        [token, separator.join(f"{number:.9g}" for number in vector)]
        for token, vector in zip(embeddings.ids, vectors)
    )
    write_atomic_file(path, header, rows, config)
    return len(embeddings.ids)


def import_profiles(
    store: ProfileStore, path: Path, config: RunConfig, overwrite_edits: bool = False
) -> int:
    """Append the profiles of an atomic file that differ from a store's, and return their number.

    Without a ``history`` column nobody can tell what user profiles were written from, so training
    refuses them unless ``profile_allow_leak: True``.

    Parameters
    ----------
    store : ProfileStore
        Where they go.
    path : Path
        The file.
    config : recbole_llmkt.config.Config
        For the separators and the encoding.
    overwrite_edits : bool
        Replace texts that were edited by hand. Otherwise they are kept, and a warning counts them.

    Raises
    ------
    DataError
        A column is missing, the file cannot be read, or a text is longer than
        ``profile_max_tokens`` allows.
    """
    table = AtomicFile(path, config)
    profiles = _profiles_of(table, store.entity, config)
    with store.writing():
        changes = _changes(store, profiles, partial(_same, table=table), overwrite_edits, path)
        for profile in changes:
            store.append(profile)
    return len(changes)


def import_external(
    store: ProfileStore, path: Path, config: RunConfig, overwrite_edits: bool = False
) -> int:
    """Append the profiles of a file from elsewhere that differ from a store's.

    Parameters and errors are those of :func:`import_profiles`; the format is that of
    :func:`~recbole_llmkt.profiles.external.read_external`. No ``.item`` file is needed.
    """
    profiles = external_profiles(path, store.entity, config)  # before anything is written
    with store.writing():
        changes = external_changes(store, profiles, path, overwrite_edits)
        for profile in changes:
            store.append(profile)
    return len(changes)


def external_changes(
    store: ProfileStore, profiles: list[Profile], path: Path, overwrite_edits: bool = False
) -> list[Profile]:
    """Return the profiles of a file that :func:`import_external` would append to a store."""
    return _changes(store, profiles, _same_text, overwrite_edits, path)


def _same_text(stored: Profile, imported: Profile) -> bool:
    texts = (stored.text, stored.history) == (imported.text, imported.history)
    return stored.error is None and texts


def _changes(
    store: ProfileStore,
    profiles: list[Profile],
    same: Callable[[Profile, Profile], bool],
    overwrite_edits: bool,
    path: Path,
) -> list[Profile]:
    """Return the profiles to append; a warning counts the edited ones that are kept."""
    stored = store.read()
    changes: dict[str, Profile] = {}
    n_kept = 0
    for profile in profiles:
        old = changes.get(profile.id) or stored.get(profile.id)
        if old is not None and same(old, profile):
            continue
        if old is not None and old.edited and not overwrite_edits:
            n_kept += 1
            continue
        changes[profile.id] = profile
    if n_kept:
        logger.warning(
            "%d profiles in %s were edited by hand and are kept; '%s' has other texts for them.",
            n_kept,
            store.path,
            path,
        )
    return list(changes.values())


def _profiles_of(table: AtomicFile, entity: str, config: RunConfig) -> list[Profile]:
    id_column = _id_column(table, entity, config)
    if "profile" not in table.columns:
        raise DataError(
            f"'{table.path}' has no column 'profile', only {', '.join(table.columns)}. Name the "
            "text column profile:token_seq."
        )
    longest = longest_text(config)
    profiles = []
    for row in table.rows():
        text = printable(row["profile"].replace(table.seq_separator, " ")).strip()
        problem = too_long(text, longest)
        if problem:
            raise DataError(
                f"The profile of {one_line(row[id_column])!r} in '{table.path}' cannot be "
                f"imported: {problem}. Shorten it, or raise profile_max_tokens."
            )
        values = {name: value_of(row.get(name, "")) for name in _COLUMNS}
        profiles.append(
            Profile(
                id=row[id_column],
                text=text,
                generator=values["generator"] or "file",
                model=values["model"],
                prompt=values["prompt"],
                history=values["history"] or None,
                time=values["time"] or utc_now(),
            )
        )
    return profiles


def _same(stored: Profile, imported: Profile, table: AtomicFile) -> bool:
    """Tell whether an imported profile has the same words, and the same origin if it has one."""
    origin = [name for name in _COLUMNS if name in table.columns and name != "time"]
    return (
        stored.error is None
        and _words(stored.text, table) == _words(imported.text, table)
        and all(getattr(stored, name) == getattr(imported, name) for name in origin)
    )


def _words(text: str, table: AtomicFile) -> list[str]:
    """Return a text's words as a file of this encoding can hold them."""
    encoded = text.encode(table.encoding, errors="replace").decode(table.encoding)
    return encoded.replace(table.seq_separator, " ").split()


def import_embeddings(store: ProfileStore, path: Path, config: RunConfig) -> int:
    """Import the vectors of an atomic file as those of ``profile_encoder``; return their number.

    A vector is skipped if the profile file beside it has another text than the store, for example
    because :func:`import_profiles` kept a text that was edited by hand.

    Raises
    ------
    DataError
        A column is missing, or a vector has another width or numbers that are not finite.
    ProfileError
        A vector belongs to no profile of the store, or a profile has no vector.
    """
    table = AtomicFile(path, config)
    id_column = _id_column(table, store.entity, config)
    others = [name for name in table.columns if name != id_column]
    if len(others) != 1:
        raise DataError(
            f"'{path}' must have two columns, ids and vectors, but has {', '.join(table.columns)}."
        )
    vectors = _vectors_of(table, id_column, others[0])
    profiles = store.usable()
    without = [profile.id for profile in profiles if profile.id not in vectors]
    if without or len(vectors) > len(profiles):
        raise ProfileError(
            f"'{path}' has {len(vectors)} vectors, but {store.path} has {len(profiles)} profiles, "
            f"{len(without)} of them without a vector. Import the profiles of the same export "
            f"first (`.{store.entity}prof`)."
        )
    fitting = _with_these_texts(profiles, path.with_suffix(f".{store.entity}prof"), store, config)
    if len(fitting) < len(profiles):
        logger.warning(
            "%d vectors in '%s' belong to other texts than those in %s: they are skipped, and "
            "computed when needed.",
            len(profiles) - len(fitting),
            path,
            store.path,
        )
    if fitting:
        write_embeddings(store, config["profile_encoder"], fitting, vectors)
    return len(fitting)


def _with_these_texts(
    profiles: list[Profile], path: Path, store: ProfileStore, config: RunConfig
) -> list[Profile]:
    """Leave out the profiles whose text differs in a profile file, if there is one."""
    if not path.is_file():
        return profiles
    table = AtomicFile(path, config)
    words = {
        profile.id: _words(profile.text, table)
        for profile in _profiles_of(table, store.entity, config)
    }
    return [
        profile
        for profile in profiles
        if words.get(profile.id) in (None, _words(profile.text, table))
    ]


def _vectors_of(
    table: AtomicFile, id_column: str, column: str
) -> dict[str, npt.NDArray[np.float32]]:
    vectors: dict[str, npt.NDArray[np.float32]] = {}
    width = None
    for row in table.rows():
        vector = _vector(row[column].split(table.seq_separator), row[id_column], table.path)
        width = width or len(vector)
        if len(vector) != width:
            raise DataError(
                f"The vector of '{row[id_column]}' in '{table.path}' has {len(vector)} numbers, "
                f"the ones before it have {width}: all must come from one encoder."
            )
        vectors[row[id_column]] = vector
    return vectors


def _vector(cells: list[str], token: str, path: Path) -> npt.NDArray[np.float32]:
    try:
        vector = np.array([float(cell) for cell in cells], dtype=np.float32)
    except ValueError as error:
        raise DataError(f"The vector of '{token}' in '{path}': {error}.") from error
    if not np.isfinite(vector).all():
        raise DataError(f"The vector of '{token}' in '{path}' has NaN or infinite numbers.")
    return vector


def _id_column(table: AtomicFile, entity: str, config: RunConfig) -> str:
    allowed = (_ID[entity], config[f"{entity.upper()}_ID_FIELD"])
    for name in allowed:
        if name in table.columns:
            return str(name)
    raise DataError(
        f"'{table.path}' has no column {' or '.join(allowed)}, only {', '.join(table.columns)}."
    )
