"""Profiles and embeddings as RecBole atomic files, and back."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_llmkt.exceptions import DataError, ProfileError
from recbole_llmkt.profiles.atomic import AtomicFile, write_atomic_file
from recbole_llmkt.profiles.embeddings import Embeddings, write_embeddings
from recbole_llmkt.profiles.store import Profile, ProfileStore, utc_now

# RecBole keeps one meaning per column name: the id column of an additional file needs its own.
_ID = {"user": "uid", "item": "iid"}
_COLUMNS = ("history", "generator", "model", "prompt", "time")


def profile_path(folder: str | Path, dataset: str, entity: str) -> Path:
    """Return ``<folder>/<dataset>.userprof`` (or ``.itemprof``)."""
    return Path(folder) / f"{dataset}.{entity}prof"


def embedding_path(folder: str | Path, dataset: str, entity: str) -> Path:
    """Return ``<folder>/<dataset>.useremb`` (or ``.itememb``)."""
    return Path(folder) / f"{dataset}.{entity}emb"


def export_profiles(store: ProfileStore, path: Path, config: Any) -> int:
    """Write the usable profiles as an atomic file, and return their number.

    The columns are ``uid:token`` (``iid`` for items), ``profile:token_seq`` and where each
    profile comes from. Line breaks and tabs inside a text become blanks.
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


def export_embeddings(embeddings: Embeddings, entity: str, path: Path, config: Any) -> int:
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


def import_profiles(store: ProfileStore, path: Path, config: Any) -> int:
    """Append the profiles of an atomic file to a store, and return their number.

    Without a ``history`` column it is unknown what user profiles were written from, and training
    refuses them unless ``profile_allow_leak: True``.

    Raises
    ------
    DataError
        The file lacks the columns, or cannot be read.
    """
    table = AtomicFile(path, config)
    id_column = _id_column(table, store.entity, config)
    if "profile" not in table.columns:
        raise DataError(
            f"'{path}' has no column 'profile'; there are {', '.join(table.columns)}. Name the "
            "column with the texts profile:token_seq."
        )
    count = 0
    with store.writing():
        known = store.read()
        for row in table.rows():
            imported = Profile(
                id=row[id_column],
                text=row["profile"].replace(table.seq_separator, " "),
                generator=row.get("generator") or "file",
                model=row.get("model", ""),
                prompt=row.get("prompt", ""),
                history=row.get("history") or None,
                time=row.get("time") or utc_now(),
            )
            old = known.get(imported.id)
            if old is None or replace(old, time=imported.time) != imported:
                store.append(imported)
                count += 1
    return count


def import_embeddings(store: ProfileStore, path: Path, config: Any) -> int:
    """Take the vectors of an atomic file as those of ``profile_encoder``; return their number.

    Raises
    ------
    DataError
        The file lacks the columns, or a vector is not of finite numbers or of another width.
    ProfileError
        A vector belongs to no profile of the store, or a profile has no vector.
    """
    table = AtomicFile(path, config)
    id_column = _id_column(table, store.entity, config)
    others = [name for name in table.columns if name != id_column]
    if len(others) != 1:
        raise DataError(
            f"'{path}' must have two columns, ids and vectors; it has {', '.join(table.columns)}."
        )
    vectors: dict[str, npt.NDArray[np.float32]] = {}
    width = None
    for row in table.rows():
        vector = _vector(row[others[0]].split(table.seq_separator), row[id_column], path)
        width = width or len(vector)
        if len(vector) != width:
            raise DataError(
                f"The vector of '{row[id_column]}' in '{path}' has {len(vector)} numbers, those "
                f"before it {width}: all must come from one encoder."
            )
        vectors[row[id_column]] = vector
    profiles = store.usable()
    lacking = [profile.id for profile in profiles if profile.id not in vectors]
    if lacking or len(vectors) > len(profiles):
        raise ProfileError(
            f"'{path}' has {len(vectors)} vectors, and {store.path} {len(profiles)} profiles; "
            f"{len(lacking)} profiles have no vector. Import the profiles first (`.{store.entity}"
            "prof`), both from the same export."
        )
    write_embeddings(store, config["profile_encoder"], profiles, vectors)
    return len(vectors)


def _vector(cells: list[str], token: str, path: Path) -> npt.NDArray[np.float32]:
    try:
        vector = np.array([float(cell) for cell in cells], dtype=np.float32)
    except ValueError as error:
        raise DataError(f"The vector of '{token}' in '{path}': {error}.") from error
    if not np.isfinite(vector).all():
        raise DataError(f"The vector of '{token}' in '{path}' has NaN or infinite numbers.")
    return vector


def _id_column(table: AtomicFile, entity: str, config: Any) -> str:
    allowed = (_ID[entity], config[f"{entity.upper()}_ID_FIELD"])
    for name in allowed:
        if name in table.columns:
            return str(name)
    raise DataError(
        f"'{table.path}' has neither the column {' nor '.join(allowed)}; there are "
        f"{', '.join(table.columns)}."
    )
