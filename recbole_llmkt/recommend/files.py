"""Vectors and recommendations as files: Parquet, npz, CSV and JSON lines, whole or not at all."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from recbole_llmkt.recommend.factors import Factors, Matrix
from recbole_llmkt.recommend.recommender import Recommendation
from recbole_llmkt.recommend.render import json_line
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.files import replacing
from recbole_llmkt.utils.text import cell, one_line

VECTOR_FORMATS = ("parquet", "npz")
_PLAIN = ("user", "rank", "item", "title", "score")
_REASONED = (*_PLAIN, "reason", "cosine", "note")
# Users in a row group of a Parquet file.
_GROUP = 8192

Row = tuple[object, ...]


def check_format(wanted: str, formats: Sequence[str]) -> None:
    """Refuse an unknown format before anything is computed.

    Raises
    ------
    ConfigError
        It is not one of ``formats``, or it is Parquet and pyarrow is missing.
    """
    if wanted not in formats:
        raise ConfigError(
            f"The format '{wanted}' cannot be written here: choose {', '.join(formats)}."
        )
    if wanted == "parquet":
        _pyarrow()


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(
            "Parquet needs pyarrow: pip install 'recbole_llmkt[parquet]', or choose another format."
        ) from error
    return pyarrow


# ---- vectors ----------------------------------------------------------------------------------


def write_vectors(
    folder: Path, users: Sequence[str], items: Sequence[str], factors: Factors, form: str
) -> list[Path]:
    """Write user vectors and item vectors, each to a file with their ids.

    Parquet has the columns ``id`` (a string) and ``vector`` (a list of ``dim`` float32); npz the
    arrays ``id`` and ``vector`` of shape (n, dim).

    Parameters
    ----------
    folder : Path
        Where ``users`` and ``items`` go, with the format as suffix.
    users, items : sequence of str
        The ids of the rows.
    factors : Factors
        The vectors.
    form : str
        One of :data:`VECTOR_FORMATS`.

    Returns
    -------
    list of Path
        The files.
    """
    check_format(form, VECTOR_FORMATS)
    write = _vectors_to_parquet if form == "parquet" else _vectors_to_npz
    paths = []
    for name, ids, vectors in (("users", users, factors.users), ("items", items, factors.items)):
        paths.append(folder / f"{name}.{form}")
        with replacing(paths[-1], "--output") as file:
            write(file, ids, vectors)
    return paths


def _vectors_to_npz(file: BinaryIO, ids: Sequence[str], vectors: Matrix) -> None:
    np.savez(file, id=np.array(ids, dtype=np.str_), vector=vectors)


def _vectors_to_parquet(file: BinaryIO, ids: Sequence[str], vectors: Matrix) -> None:
    arrow = _pyarrow()
    flat = arrow.array(vectors.reshape(-1), type=arrow.float32())
    column = arrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    table = arrow.table({"id": arrow.array(ids, type=arrow.string()), "vector": column})
    arrow.parquet.write_table(table, file)


# ---- recommendations --------------------------------------------------------------------------


def write_recommendations(
    path: Path, recommendations: Iterable[Recommendation], with_reasons: bool
) -> int:
    """Write recommendations as they arrive, a row for each user and item.

    The columns are ``user``, ``rank`` (from 1), ``item``, ``title`` and ``score``; with reasons
    also ``reason``, ``cosine`` (of the first sentence) and ``note``. JSON lines have an object for
    each user: see :func:`~recbole_llmkt.recommend.render.json_line`.

    Parameters
    ----------
    path : Path
        Its suffix is one of :data:`LIST_FORMATS`.
    recommendations : iterable of Recommendation
        Consumed one by one, so only some are in memory.
    with_reasons : bool
        Whether they have reasons.

    Returns
    -------
    int
        Number of users.
    """
    form = path.suffix[1:]
    check_format(form, LIST_FORMATS)
    counted = _Counter(recommendations)
    with replacing(path, "--output") as file:
        _WRITERS[form](file, counted, with_reasons)
    return counted.count


class _Counter:
    """Passes recommendations through and counts them."""

    def __init__(self, recommendations: Iterable[Recommendation]) -> None:
        self._recommendations = recommendations
        self.count = 0

    def __iter__(self) -> Iterator[Recommendation]:
        for recommendation in self._recommendations:
            self.count += 1
            yield recommendation


def _to_jsonl(file: BinaryIO, recommendations: Iterable[Recommendation], _: bool) -> None:
    for recommendation in recommendations:
        file.write(f"{json_line(recommendation)}\n".encode())


def _to_csv(file: BinaryIO, recommendations: Iterable[Recommendation], with_reasons: bool) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogatepass", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_REASONED if with_reasons else _PLAIN)
    for recommendation in recommendations:
        writer.writerows(_rows(recommendation, with_reasons, cell))
    text.detach()


def _to_parquet(
    file: BinaryIO, recommendations: Iterable[Recommendation], with_reasons: bool
) -> None:
    arrow = _pyarrow()
    string, real = arrow.string(), arrow.float32()
    types = (string, arrow.int32(), string, string, real, string, real, string)
    names = _REASONED if with_reasons else _PLAIN
    schema = arrow.schema(list(zip(names, types)))
    users = iter(recommendations)
    with arrow.parquet.ParquetWriter(file, schema) as writer:
        while block := list(itertools.islice(users, _GROUP)):
            rows = (row for each in block for row in _rows(each, with_reasons))
            columns = zip(*rows)
            arrays = [arrow.array(values, type=kind) for values, kind in zip(columns, types)]
            if arrays:
                writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))


def _rows(
    recommendation: Recommendation, with_reasons: bool, shown: Callable[[str], str] = one_line
) -> Iterator[Row]:
    for rank, item in enumerate(recommendation.items, start=1):
        row: Row = (recommendation.user, rank, item.token, shown(item.title), item.score)
        if with_reasons:
            reasons = item.explanation.reasons
            sentence = shown(" / ".join(reason.sentence for reason in reasons)) or None
            note = item.explanation.note and shown(item.explanation.note)
            row += (sentence, reasons[0].cosine if reasons else None, note)
        yield row


_WRITERS: dict[str, Callable[[BinaryIO, Iterable[Recommendation], bool], None]] = {
    "parquet": _to_parquet,
    "csv": _to_csv,
    "jsonl": _to_jsonl,
}
LIST_FORMATS = tuple(_WRITERS)
