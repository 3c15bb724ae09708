"""Tables in CSV, TSV, JSON lines and Parquet, with the line of every row.

Every cell is read as the text that the file has: an id called ``NA``, ``null`` or ``007`` stays
what it is. ``""`` is a missing value.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_llmkt.utils.exceptions import DataError, reason_of
from recbole_llmkt.utils.progress import tqdm
from recbole_llmkt.utils.text import one_line

_SURROGATES = re.compile("[\ud800-\udfff]")
_DELIMITED = (".csv", ".tsv", ".tab", ".txt")
_JSON = (".jsonl", ".ndjson", ".json")
_PARQUET = (".parquet", ".pq")
_SEPARATORS = (",", ";", "\t", "|")
_LISTED = 20
_BLOCK = 1000  # lines that are read at once, and between two steps of a progress bar
_EXACT = 2.0**53  # larger floats are no exact whole numbers


@dataclass
class BadRows:
    """Rows that cannot be used, as they are met.

    Attributes
    ----------
    reasons : dict of (Path, int) to str
        File and number of a row to "orders.csv, line 7: what is wrong there".
    """

    reasons: dict[tuple[Path, int], str] = field(default_factory=dict)

    def add(self, path: Path, number: int, reason: str, unit: str = "line") -> None:
        """Note a row by its number; the first reason of a row counts."""
        text = f"{path.name}, {unit} {number}: {one_line(reason)[:200]}"
        self.reasons.setdefault((path, number), text)

    def numbers(self, path: Path) -> set[int]:
        """Return the numbers of a file's bad rows."""
        return {number for bad_path, number in self.reasons if bad_path == path}

    def listing(self) -> str:
        """Return the first rows, one a line, and the number of the others."""
        lines = [f"  {text}" for text in self.reasons.values()]
        rest = len(lines) - _LISTED
        return "\n".join(lines[:_LISTED] + ([f"  and {rest:,} more"] if rest > 0 else []))


@dataclass(frozen=True)
class Table:
    """A table whose cells are texts.

    Attributes
    ----------
    path : Path
        Its file.
    frame : pandas.DataFrame
        Columns of str, ``""`` where a value is missing; the index holds each row's first line in
        the file, counted from 1 (in Parquet the row).
    unit : str
        ``"line"`` or ``"row"``.
    """

    path: Path
    frame: pd.DataFrame
    unit: str = "line"

    def place(self, number: int) -> str:
        """Return where a row is, by its number in the index."""
        return f"{self.unit} {number}"


@dataclass(frozen=True)
class Reading:
    """How to read the tables.

    Attributes
    ----------
    encoding : str
        Of text files.
    separator : str or None
        Of CSV files; None takes the one that the first line has most often.
    missing : tuple of str
        Texts that stand for a missing value, besides the empty one.
    """

    encoding: str = "utf-8"
    separator: str | None = None
    missing: tuple[str, ...] = ()


def read_table(path: Path, how: Reading, bad: BadRows) -> Table:
    """Read a table.

    Parameters
    ----------
    path : Path
        ``.csv``, ``.tsv``, ``.jsonl`` (each also ``.gz``) or ``.parquet``.
    how : Reading
        Encoding, separator, missing values.
    bad : BadRows
        Rows of another length, unclosed quotation marks and lines that are no JSON are noted
        there, and left out.

    Raises
    ------
    DataError
        There is no such file, it cannot be read, or it has no header or no rows.
    """
    if not path.is_file():
        raise DataError(f"There is no file '{path}': correct the path.")
    suffix = Path(path.stem if path.suffix.lower() == ".gz" else path.name).suffix.lower()
    try:
        if suffix in _PARQUET:
            table = _read_parquet(path)
        elif suffix in _JSON:
            table = _read_json_lines(path, how, bad)
        elif suffix in _DELIMITED:
            table = _read_delimited(path, how, bad)
        else:
            raise DataError(
                f"'{path}': the name must end with .csv, .tsv, .jsonl (each also .gz) or .parquet."
            )
    except UnicodeError as error:
        raise DataError(
            f"'{path}' is not {how.encoding} ({error}): name the encoding, for example "
            "--encoding=latin-1 or utf-16, or convert the file."
        ) from error
    except (OSError, EOFError, LookupError) as error:  # a damaged .gz, an unknown encoding
        raise DataError(f"Cannot read '{path}': {reason_of(error)}.") from error
    if table.frame.empty and not bad.reasons:
        raise DataError(f"'{path}' has no rows.")
    if how.missing:
        table.frame.mask(table.frame.isin(how.missing), "", inplace=True)
    return table


@contextmanager
def _lines(path: Path, encoding: str) -> Iterator[Iterator[str]]:
    """Open a text file for its lines, with a progress bar from two seconds on."""
    is_packed = path.suffix.lower() == ".gz"
    encoding = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
    total = None if is_packed else path.stat().st_size
    with gzip.open(path) if is_packed else path.open("rb") as raw:
        text = io.TextIOWrapper(raw, encoding=encoding, newline="")
        with tqdm(total=total, desc=path.name, unit="B", unit_scale=True, delay=2) as bar:
            yield _counted(text, bar)


def _counted(lines: Iterable[str], bar: Any) -> Iterator[str]:
    size = 0
    for number, line in enumerate(lines, start=1):
        size += len(line)
        if number % _BLOCK == 0:
            bar.update(size)
            size = 0
        yield line
    bar.update(size)


def _frame(columns: dict[str, list[str]], numbers: list[int]) -> pd.DataFrame:
    return pd.DataFrame(columns, index=numbers, dtype=object)


# ---- CSV and TSV ---------------------------------------------------------------------------------


def _read_delimited(path: Path, how: Reading, bad: BadRows) -> Table:
    with _lines(path, how.encoding) as lines:
        first = next(lines, "")
        separator = how.separator or max(_SEPARATORS, key=first.count)
        header = _header(path, next(csv.reader([first], delimiter=separator), []))
        columns: list[list[str]] = [[] for _ in header]
        numbers: list[int] = []
        known: dict[str, str] = {}  # a text that occurs often is kept once
        rows = _of_length(path, len(header), _records(path, lines, separator, bad), bad)
        while block := list(itertools.islice(rows, _BLOCK)):
            numbers += [number for number, _ in block]
            for column, cells in zip(columns, zip(*(cells for _, cells in block))):
                column += map(known.setdefault, cells, cells)
    named = {name: column for name, column in zip(header, columns) if name}
    return Table(path, _frame(named, numbers))


def _of_length(
    path: Path, n_cells: int, rows: Iterable[tuple[int, list[str]]], bad: BadRows
) -> Iterator[tuple[int, list[str]]]:
    for number, cells in rows:
        if len(cells) == n_cells:
            yield number, cells
        else:
            bad.add(path, number, f"{len(cells)} cells, the header {n_cells}")


def _header(path: Path, cells: list[str]) -> list[str]:
    names = [one_line(cell).strip() for cell in cells]
    if not any(names):
        raise DataError(f"'{path}' has no header: its first line must name the columns.")
    for name in names:
        if name and names.count(name) > 1:
            raise DataError(f"'{path}' has two columns '{name}': rename one of them.")
        if "@" in name or name.replace(".", "").replace("-", "").isdigit():
            raise DataError(
                f"'{path}': the first line must name the columns, and '{name}' looks like a value. "
                "Add a header."
            )
    return names


def _records(
    path: Path, lines: Iterator[str], separator: str, bad: BadRows
) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows with the number of their first line; blank lines are passed over."""
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        number = reader.line_num + 2  # the header is line 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = str(error)
            if "unexpected end" in reason:
                reason = "a quotation mark is never closed"
            bad.add(path, number, reason)
            continue
        if cells:
            yield number, cells


# ---- JSON lines ----------------------------------------------------------------------------------


def _read_json_lines(path: Path, how: Reading, bad: BadRows) -> Table:
    rows: list[dict[str, str]] = []
    numbers = []
    with _lines(path, how.encoding) as lines:
        for number, line in enumerate(lines, start=1):
            if number == 1 and line.lstrip().startswith("["):
                raise DataError(
                    f"'{path}' is one JSON list. Write one object a line: "
                    f"jq -c '.[]' {path.name} > {path.stem}.jsonl"
                )
            if not line.strip():
                continue
            try:
                content = json.loads(line)
            except (ValueError, RecursionError) as error:
                bad.add(path, number, f"no JSON ({error})")
                continue
            if not isinstance(content, dict):
                bad.add(path, number, "no JSON object")
                continue
            if "\\u" in line and _SURROGATES.search(json.dumps(content, ensure_ascii=False)):
                bad.add(path, number, "half of a character (a lone surrogate such as \\ud800)")
                continue
            numbers.append(number)
            rows.append({name: as_text(value) for name, value in _flat(content)})
    names = dict.fromkeys(name for row in rows for name in row)
    return Table(
        path, _frame({name: [row.get(name, "") for row in rows] for name in names}, numbers)
    )


def _flat(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of an object; those of an object within it as ``user.email``."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def as_text(value: Any) -> str:
    """Return a value of JSON or Parquet as the text of a cell.

    Examples
    --------
    >>> as_text(None), as_text(7.0), as_text(True), as_text(["Home", None])
    ('', '7', 'true', '["Home"]')
    """
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, (list, tuple, dict)):
        parts = list(value.values()) if isinstance(value, dict) else value
        return json.dumps([text for part in parts if (text := as_text(part))], ensure_ascii=False)
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


# ---- Parquet -------------------------------------------------------------------------------------


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"'{path}' needs pyarrow: pip install 'recbole_llmkt[parquet]', or save it as CSV."
        ) from error
    columns: dict[str, list[str]] = {}
    try:
        file = parquet.ParquetFile(path)
        with tqdm(total=file.metadata.num_rows, desc=path.name, unit=" rows", delay=2) as bar:
            for batch in file.iter_batches():
                for name, column in zip(batch.schema.names, batch.columns):
                    columns.setdefault(name, []).extend(map(as_text, column.to_pylist()))
                bar.update(batch.num_rows)
        n_rows = file.metadata.num_rows
    except pyarrow.ArrowException as error:
        raise DataError(f"Cannot read '{path}': {' '.join(str(error).split())}.") from error
    return Table(path, _frame(columns, list(range(1, n_rows + 1))), "row")
