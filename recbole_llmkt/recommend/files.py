"""Vectors and recommendations as files: Parquet, npz, CSV and JSON lines, whole or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from recbole_llmkt.recommend.explain import Explanation
from recbole_llmkt.recommend.factors import Factors, Matrix
from recbole_llmkt.recommend.recommender import Block
from recbole_llmkt.recommend.render import json_line
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.files import replacing
from recbole_llmkt.utils.text import cell, one_line

VECTOR_FORMATS = ("parquet", "npz")
_PLAIN = ("user", "rank", "item", "title", "score")
_REASONED = (*_PLAIN, "reason", "cosine", "note")
# Rows at least in a row group of a Parquet file.
_GROUP = 2**16

Column = Sequence[object]


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


def write_recommendations(path: Path, blocks: Iterable[Block], with_reasons: bool) -> int:
    """Write recommendations as they arrive, a row for each user and item.

    The columns are ``user``, ``rank`` (from 1), ``item``, ``title`` and ``score``; with reasons
    also ``reason``, ``cosine`` (of the first sentence) and ``note``. JSON lines have an object for
    each user: see :func:`~recbole_llmkt.recommend.render.json_line`.

    Parameters
    ----------
    path : Path
        Its suffix is one of :data:`LIST_FORMATS`.
    blocks : iterable of Block
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
    counted = _Counter(blocks)
    with replacing(path, "--output") as file:
        _WRITERS[form](file, counted, with_reasons)
    return counted.count


class _Counter:
    """Passes blocks through and counts their users."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self._blocks = blocks
        self.count = 0

    def __iter__(self) -> Iterator[Block]:
        for block in self._blocks:
            self.count += len(block.users)
            yield block


def _to_jsonl(file: BinaryIO, blocks: Iterable[Block], _: bool) -> None:
    for block in blocks:
        file.writelines(f"{json_line(each)}\n".encode() for each in block.recommendations())


def _to_csv(file: BinaryIO, blocks: Iterable[Block], with_reasons: bool) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogatepass", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_REASONED if with_reasons else _PLAIN)
    for block in blocks:
        writer.writerows(zip(*_columns(block, cell)))
    text.detach()


def _to_parquet(file: BinaryIO, blocks: Iterable[Block], with_reasons: bool) -> None:
    arrow = _pyarrow()
    string, real = arrow.string(), arrow.float32()
    types = (string, arrow.int32(), string, string, real, string, real, string)
    schema = arrow.schema(list(zip(_REASONED if with_reasons else _PLAIN, types)))
    with arrow.parquet.ParquetWriter(file, schema) as writer:
        waiting: list[Any] = []
        for block in blocks:
            columns = zip(_columns(block, one_line), types)
            arrays = [arrow.array(values, type=kind) for values, kind in columns]
            waiting.append(arrow.Table.from_arrays(arrays, schema=schema))
            if sum(map(len, waiting)) >= _GROUP:
                writer.write_table(arrow.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(arrow.concat_tables(waiting))


def _columns(block: Block, shown: Callable[[str], str]) -> list[Column]:
    users = [user for user, length in zip(block.users, block.lengths) for _ in range(length)]
    ranks = [rank for length in block.lengths for rank in range(1, length + 1)]
    titles = {title: shown(title) for title in set(block.titles)}
    columns: list[Column] = [
        *(users, ranks, block.items),
        *([titles[title] for title in block.titles], block.scores),
    ]
    if block.explanations is not None:
        reasons = [_reason(explanation, shown) for explanation in block.explanations]
        columns += [[row[place] for row in reasons] for place in range(3)]
    return columns


def _reason(explanation: Explanation, shown: Callable[[str], str]) -> tuple[object, ...]:
    reasons = explanation.reasons
    sentence = shown(" / ".join(reason.sentence for reason in reasons)) or None
    note = explanation.note and shown(explanation.note)
    return sentence, reasons[0].cosine if reasons else None, note


_WRITERS: dict[str, Callable[[BinaryIO, Iterable[Block], bool], None]] = {
    "parquet": _to_parquet,
    "csv": _to_csv,
    "jsonl": _to_jsonl,
}
LIST_FORMATS = tuple(_WRITERS)
