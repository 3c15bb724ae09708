"""Profile embeddings on disk: one table per encoder and entity, updated as texts change."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from recbole_llmkt.profiles.store import Profile, ProfileStore
from recbole_llmkt.utils.exceptions import ProfileError, reason_of
from recbole_llmkt.utils.files import append_whole, check_own_file, exclusive, replace_file
from recbole_llmkt.utils.progress import tqdm
from recbole_llmkt.utils.text import json_line
from recbole_llmkt.utils.types import Array

logger = logging.getLogger(__name__)

DTYPES = ("float16", "float32")
# Texts encoded before their vectors go to the disk: what a killed process may lose.
_CHUNK = 512
_BLOCK = 65536
_LONGEST_SLUG = 100


class TextEncoder(Protocol):
    """What :func:`build_embeddings` needs of an encoder."""

    @property
    def name(self) -> str:
        """Name of the encoder, as in ``profile_encoder``."""

    def encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Return L2-normalised vectors, float32, shape (n_texts, dim_text)."""


@dataclass(frozen=True)
class Embeddings:
    """Vectors of profiles by token.

    Attributes
    ----------
    encoder : str
        What made them.
    ids : list of str
        Tokens of the entities.
    texts : list of str
        Digest of the text that each vector was made from.
    vectors : ndarray of float16 or float32, shape (n_profiles, dim_text)
        Row i belongs to ``ids[i]``; memory-mapped when read from the disk.
    """

    encoder: str
    ids: list[str]
    texts: list[str]
    vectors: Array

    def fits(self, profiles: list[Profile]) -> bool:
        """Whether these are the vectors of exactly these profiles and texts."""
        made = dict(zip(self.ids, self.texts))
        return len(made) == len(profiles) and all(
            made.get(profile.id) == text_digest(profile.text) for profile in profiles
        )


def text_digest(text: str) -> str:
    """Return blake2b, 8 bytes, hex, of a profile's UTF-8 text."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def embedding_paths(folder: str | Path, encoder: str, entity: str) -> tuple[Path, Path]:
    """Return the paths of the vectors (``.npy``) and of their ids (``.json``)."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "_", encoder).strip("_")
    if len(slug) > _LONGEST_SLUG:
        slug = f"{slug[-_LONGEST_SLUG:]}-{text_digest(encoder)}"
    home = Path(folder) / "embeddings" / slug
    return home / f"{entity}.npy", home / f"{entity}.json"


def read_embeddings(folder: str | Path, encoder: str, entity: str) -> Embeddings | None:
    """Read the vectors that an encoder made, memory-mapped; None if there are none.

    Raises
    ------
    ProfileError
        The files contradict each other, another encoder made them, or a vector is not finite.
    """
    vectors_path, ids_path = embedding_paths(folder, encoder, entity)
    if not ids_path.is_file() or not vectors_path.is_file():
        return None
    fix = f"Delete {vectors_path.parent} and run `llmkt profile embed` again."
    try:
        header = json.loads(ids_path.read_text(encoding="utf-8"))
        stored = Embeddings(
            header["encoder"],
            header["ids"],
            header["texts"],
            np.load(vectors_path, mmap_mode="r", allow_pickle=False),
        )
        dim = int(header["dim"])
        is_text = all(isinstance(text, str) for text in (*stored.ids, *stored.texts))
        if not is_text or stored.vectors.dtype.kind != "f":
            raise TypeError("ids must be texts, and vectors numbers")
    except Exception as error:  # whatever a damaged file makes numpy or json raise
        reason = reason_of(error)
        raise ProfileError(f"Cannot read the embeddings {vectors_path}: {reason}. {fix}") from error
    if stored.encoder != encoder:
        raise ProfileError(
            f"{vectors_path} was made by the encoder '{stored.encoder}', not by '{encoder}'. {fix}"
        )
    if stored.vectors.shape != (len(stored.ids), dim) or len(stored.texts) != len(stored.ids):
        raise ProfileError(
            f"{vectors_path} has the shape {stored.vectors.shape}, but {ids_path.name} lists "
            f"{len(stored.ids)} ids and a width of {dim}. {fix}"
        )
    _check_finite(stored, vectors_path, fix)
    return stored


def _check_finite(stored: Embeddings, path: Path, fix: str) -> None:
    for start in range(0, len(stored.ids), _BLOCK):  # never the whole table in memory
        bad = ~np.isfinite(stored.vectors[start : start + _BLOCK]).all(axis=1)
        if bad.any():
            raise ProfileError(
                f"{path} holds vectors with NaN or infinite numbers, such as that of "
                f"'{stored.ids[start + int(np.argmax(bad))]}' . {fix}"
            )


def build_embeddings(
    store: ProfileStore,
    encoder: TextEncoder,
    folder: str | Path | None = None,
    dtype: str = "float32",
) -> Embeddings:
    """Encode the profiles of a store; texts that were encoded before are not encoded again.

    Parameters
    ----------
    store : ProfileStore
        The profiles; failed and empty ones are left out.
    encoder : TextEncoder
        Turns texts into vectors.
    folder : str or Path, optional
        Where the vectors go; by default, beside the profiles.
    dtype : {"float32", "float16"}
        How they are stored.

    Returns
    -------
    Embeddings

    Raises
    ------
    ProfileError
        There is no profile, the folder cannot be written, or the encoder returned something
        else than one finite vector per text.
    """
    if dtype not in DTYPES:
        raise ProfileError(f"Unknown dtype '{dtype}': choose float16 or float32.")
    profiles = store.usable()
    if not profiles:
        raise ProfileError(f"There is no profile in {store.path}: run `llmkt profile` first.")
    vectors_path, ids_path = embedding_paths(folder or store.folder, encoder.name, store.entity)
    with exclusive(vectors_path.with_name(f".{store.entity}.lock"), wait=True):
        check_own_file(_partial(vectors_path))
        known = _finished(vectors_path, ids_path, encoder.name, dtype)
        unfinished = _unfinished(_partial(vectors_path), known)
        known.update(unfinished)
        texts = {text_digest(profile.text): profile.text for profile in profiles}
        missing = {key: text for key, text in texts.items() if key not in known}
        if missing:
            logger.info(
                "Encoding %d %s profiles with %s.", len(missing), store.entity, encoder.name
            )
            made = _encode(encoder, missing, vectors_path)
            other = _of_another_width(texts, unfinished, len(next(iter(made.values()))))
            if other:
                logger.warning(
                    "%s is damaged: %d vectors of another width are encoded again.",
                    _partial(vectors_path),
                    len(other),
                )
            known.update({**made, **_encode(encoder, other, vectors_path)})
        vectors = {profile.id: known[text_digest(profile.text)] for profile in profiles}
        built = write_embeddings(store, encoder.name, profiles, vectors, folder, dtype)
        _partial(vectors_path).unlink(missing_ok=True)
    return built


def _of_another_width(
    texts: Mapping[str, str], vectors: Mapping[str, Array], width: int
) -> dict[str, str]:
    """Return the texts whose vectors are damaged, or of another model of that name."""
    both = texts.keys() & vectors.keys()
    return {key: texts[key] for key in both if len(vectors[key]) != width}


def _partial(vectors_path: Path) -> Path:
    return vectors_path.with_suffix(".part")


def _finished(vectors_path: Path, ids_path: Path, encoder: str, dtype: str) -> dict[str, Array]:
    """Return the vectors of an earlier run, by text digest, if they are precise enough."""
    if not vectors_path.is_file() or not ids_path.is_file():
        return {}
    try:
        vectors = np.load(vectors_path, mmap_mode="r", allow_pickle=False)
        header = json.loads(ids_path.read_text(encoding="utf-8"))
        digests = [str(digest) for digest in header["texts"]]
        if header["encoder"] != encoder or vectors.ndim != 2 or len(digests) != len(vectors):
            raise ValueError("the files contradict each other")
        good = np.isfinite(vectors).all(axis=1)
    except Exception as error:  # whatever a damaged file makes numpy or json raise
        logger.warning(
            "%s is unusable (%s); all its profiles are encoded again.",
            vectors_path,
            reason_of(error),
        )
        return {}
    if vectors.dtype.itemsize < np.dtype(dtype).itemsize:
        return {}
    return {key: vector for key, vector, fine in zip(digests, vectors, good) if fine}


def _unfinished(path: Path, finished: Mapping[str, Array]) -> dict[str, Array]:
    """Return the vectors of a run that was killed, and cut off its unfinished record.

    A file whose vectors differ in width, from each other or from those that are finished, is
    discarded: it is damaged, or of another model.
    """
    known: dict[str, Array] = {}
    if not path.is_file():
        return known
    with path.open("r+b") as file:
        end, size = 0, path.stat().st_size
        while end < size and (records := _record(file)) is not None:
            known.update(zip(map(str, records["text"]), records["vector"]))
            end = file.tell()
        widths = {len(vector) for vector in (*known.values(), *finished.values())}
        if len(widths) > 1:
            known, end = {}, 0
        if end < size:
            logger.warning(
                "%s is damaged: %d vectors are kept, the rest is encoded again.", path, len(known)
            )
            file.truncate(end)
    return known


def _record(file: BinaryIO) -> Array | None:
    """Read the next array of digests and vectors; None if it is cut off or damaged."""
    try:
        records: Array = np.lib.format.read_array(  # type: ignore[no-untyped-call]
            file, allow_pickle=False
        )
        text, vector = records["text"], records["vector"]
        is_whole = (
            text.dtype.kind == "U"
            and text.ndim == 1
            and vector.dtype == np.float32
            and vector.ndim == 2
            and vector.shape[1] > 0
            and bool(np.isfinite(vector).all())
        )
    except Exception:  # whatever damage makes numpy raise: EOFError, SyntaxError, BadZipFile, ...
        return None
    return records if is_whole else None


def _encode(encoder: TextEncoder, texts: dict[str, str], vectors_path: Path) -> dict[str, Array]:
    """Encode texts by digest, keeping each chunk on the disk before the next one."""
    # Texts of equal length together: less padding in every batch.
    digests = sorted(texts, key=lambda key: len(texts[key]), reverse=True)
    encoded: dict[str, Array] = {}
    for start in tqdm(
        range(0, len(digests), _CHUNK), desc="Encode profiles", unit="chunk", delay=2
    ):
        chunk = digests[start : start + _CHUNK]
        vectors = _checked(encoder.encode([texts[key] for key in chunk]), encoder.name, chunk)
        records = np.empty(len(chunk), dtype=[("text", "U16"), ("vector", "f4", vectors.shape[1:])])
        records["text"], records["vector"] = chunk, vectors
        content = io.BytesIO()
        np.save(content, records)
        with _partial(vectors_path).open("ab", buffering=0) as file:
            append_whole(file, content.getvalue(), "profile_dir")
            os.fsync(file.fileno())
        encoded.update(zip(chunk, vectors))
    return encoded


def _checked(
    vectors: npt.NDArray[np.float32], encoder: str, texts: list[str]
) -> npt.NDArray[np.float32]:
    if vectors.ndim != 2 or len(vectors) != len(texts) or vectors.shape[1] == 0:
        raise ProfileError(
            f"The encoder '{encoder}' returned the shape {vectors.shape} for {len(texts)} texts: "
            "it must return one vector per text."
        )
    if not np.isfinite(vectors).all():
        raise ProfileError(
            f"The encoder '{encoder}' returned NaN or infinite numbers: choose another one with "
            "profile_encoder, or run it with profile_device: cpu."
        )
    return vectors


def write_embeddings(
    store: ProfileStore,
    encoder: str,
    profiles: list[Profile],
    vectors: Mapping[str, Array],
    folder: str | Path | None = None,
    dtype: str = "float32",
) -> Embeddings:
    """Write vectors and their ids, both or neither.

    Parameters
    ----------
    store : ProfileStore
        For the folder and the entity.
    encoder : str
        What made the vectors.
    profiles : list of Profile
        Profiles with a text, in the order of the rows.
    vectors : mapping of str to ndarray, shape (dim_text,)
        By id.
    folder, dtype
        As in :func:`build_embeddings`.

    Raises
    ------
    ProfileError
        The vectors have different widths.
    """
    vectors_path, ids_path = embedding_paths(folder or store.folder, encoder, store.entity)
    widths = {len(vectors[profile.id]) for profile in profiles}
    if len(widths) > 1:
        raise ProfileError(
            f"'{encoder}' made vectors of different widths, {sorted(widths)}: its name now means "
            f"another model. Delete {vectors_path.parent} and run `llmkt profile embed` again."
        )
    header = {
        "encoder": encoder,
        "dim": widths.pop(),
        "ids": [profile.id for profile in profiles],
        "texts": [text_digest(profile.text) for profile in profiles],
    }
    table = io.BytesIO()
    np.save(table, np.stack([vectors[profile.id] for profile in profiles]).astype(dtype))
    # Without its ids a table counts as missing: vectors and ids never contradict each other.
    ids_path.unlink(missing_ok=True)
    replace_file(vectors_path, table.getvalue(), "profile_dir")
    replace_file(ids_path, f"{json_line(header, indent=0)}\n".encode(), "profile_dir")
    written = read_embeddings(folder or store.folder, encoder, store.entity)
    assert written is not None
    return written
