"""RecBole's atomic files: headers, cells, and writing them."""

from __future__ import annotations

import ast
import codecs
import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from recbole_llmkt.utils.exceptions import DataError, nearest
from recbole_llmkt.utils.files import replace_file
from recbole_llmkt.utils.types import RunConfig

COLUMN_TYPES = ("token", "token_seq", "float", "float_seq")
_SEPARATORS = ("\t", ",", ";", "|")
_LONGEST_HEADER = 2**20  # characters


def read_header(path: Path, config: RunConfig, for_recbole: bool = True) -> dict[str, str]:
    """Read an atomic file's header, split at every separator as RecBole splits it.

    Parameters
    ----------
    path : Path
        The file.
    config : recbole_llmkt.config.Config
        For ``encoding`` and ``field_separator``.
    for_recbole : bool
        Refuse what RecBole cannot read: a byte-order mark that ``encoding`` does not announce,
        and columns without one of its types. Otherwise the mark is skipped, and a column without
        a type is a ``token``.

    Returns
    -------
    dict of str to str
        Column to its type, such as ``token_seq``.

    Raises
    ------
    DataError
        There is no such file, it has another encoding, or its first line is no header of
        RecBole's atomic format.
    """
    if not path.is_file():
        raise DataError(
            f"There is no file {path}. Add it in RecBole's atomic format (a header like "
            "user_id:token<TAB>item_id:token), or correct `data_path` or `load_col`."
        )
    encoding = _encoding(config)
    try:
        with path.open("rb") as raw:
            has_mark = raw.read(3) == codecs.BOM_UTF8
        with path.open(encoding=_reading(encoding), errors=_surrogates(encoding)) as file:
            line = file.readline(_LONGEST_HEADER).rstrip("\r\n")
    except OSError as error:
        raise DataError(f"Cannot read '{path}': {error.strerror}.") from error
    except UnicodeError as error:
        raise _wrong_encoding(path, encoding, error) from error
    if for_recbole and has_mark and codecs.lookup(encoding).name != "utf-8-sig":
        raise DataError(
            f"'{path}' starts with a byte-order mark, which RecBole reads as part of the "
            "first column's name. Set encoding: utf-8-sig, or save the file without it."
        )
    if not line:
        raise DataError(f"{path} has no header in its first line, like user_id:token.")
    return _parse_header(path, line, config["field_separator"], for_recbole)


def _parse_header(path: Path, line: str, separator: str, needs_types: bool) -> dict[str, str]:
    if separator not in line:
        other = next((mark for mark in _SEPARATORS if mark != separator and mark in line), None)
        if other is not None:
            raise DataError(
                f"{path}: the columns are separated by {other!r}, not by {separator!r}: set "
                f"field_separator: {other!r}, or convert the file."
            )
    header: dict[str, str] = {}
    for cell in line.split(separator):
        name, colon, kind = cell.rpartition(":")
        if not colon and not needs_types:
            name, kind = cell, "token"
        if not name or (needs_types and (":" in name or kind not in COLUMN_TYPES)):
            raise DataError(
                f"{path}: '{cell[:40]}' in the first line is not a column of RecBole's atomic "
                f"format: write name:type, with one of the types {', '.join(COLUMN_TYPES)}."
            )
        if name in header:
            raise DataError(f"{path} has two columns '{name}': rename one of them.")
        header[name] = kind
    return header


def _encoding(config: RunConfig) -> str:
    return str(config["encoding"] or "utf-8")


def _reading(encoding: str) -> str:
    """Return the encoding to read with: that of UTF-8 skips a byte-order mark."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def _wrong_encoding(path: Path, encoding: str, error: UnicodeError) -> DataError:
    place = f" at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
    return DataError(
        f"'{path}' is not {encoding} ({getattr(error, 'reason', error)}{place}): set encoding to "
        "the file's (latin-1, for example), or convert it."
    )


class AtomicFile:
    """One of RecBole's atomic files, whose quoted cells may hold anything, as RecBole reads it.

    Parameters
    ----------
    path : Path
        The file.
    config : recbole_llmkt.config.Config
        For ``field_separator``, ``seq_separator`` and ``encoding``; a byte-order mark is
        skipped.

    Attributes
    ----------
    columns : list of str
        Names in the header, without their types.
    types : dict of str to str
        Column name to RecBole's type, such as ``token_seq``.

    Raises
    ------
    DataError
        The file cannot be read.
    """

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path = path
        self.separator: str = config["field_separator"]
        self.seq_separator: str = config["seq_separator"]
        self.encoding = _encoding(config)
        self.types = read_header(path, config, for_recbole=False)
        self.columns = list(self.types)

    def require(self, column: str, key: str) -> str:
        """Return a column's name if the file has it; ``key`` is the setting that names it."""
        if column not in self.columns:
            raise DataError(
                f"'{self.path}' has no column '{column}'; there are {', '.join(self.columns)}. "
                f"Set {key} to one of them.{nearest(column, self.columns)}"
            )
        return column

    def rows(self) -> Iterator[dict[str, str]]:
        """Yield each row as a mapping of column to cell, exactly as RecBole reads tokens.

        Nothing is stripped or converted: blanks at the ends, U+00A0 among them, and ids such as
        ``NaN``, ``null``, ``1e5`` and ``007`` stay as they are.
        """
        for cells in self._lines():
            missing = len(self.columns) - len(cells)
            yield dict(zip(self.columns, [*cells, *[""] * missing]))

    def split(self, column: str, row: dict[str, str]) -> tuple[str, ...]:
        """Split a cell into its values."""
        cell = row[column]
        if not self.types[column].endswith("seq"):
            return (cell,) if cell else ()
        # RecBole's Amazon files hold Python's notation: 'CDs & Vinyl', "Children's Music"
        if cell.startswith(("'", '"', "[")):
            try:
                values = ast.literal_eval(cell if cell.startswith("[") else f"[{cell}]")
                return tuple(str(value) for value in values)
            except (ValueError, SyntaxError, TypeError):
                pass
        return tuple(value for value in cell.split(self.seq_separator) if value)

    def _lines(self) -> Iterator[list[str]]:
        try:
            with self.path.open(
                encoding=_reading(self.encoding), newline="", errors=_surrogates(self.encoding)
            ) as file:
                file.readline()  # the header
                lines = csv.reader(file, delimiter=self.separator)
                for cells in lines:
                    if len(cells) > len(self.columns) or any(map(self._swallowed, cells)):
                        raise DataError(self._too_long(lines.line_num + 1, len(cells)))
                    if any(cells):
                        yield cells
        except OSError as error:
            raise DataError(f"Cannot read '{self.path}': {error.strerror}.") from error
        except UnicodeError as error:
            raise _wrong_encoding(self.path, self.encoding, error) from error
        except (csv.Error, TypeError) as error:
            raise DataError(
                f"Cannot read '{self.path}': {error}. Check field_separator."
            ) from error

    def _swallowed(self, cell: str) -> bool:
        """Whether a cell contains the next row, because its quotation mark is never closed."""
        return "\n" in cell and self.separator in cell

    def _too_long(self, number: int, n_cells: int) -> str:
        return (
            f"Line {number} of '{self.path}' ends a row of {n_cells} cells, but the header names "
            f"{len(self.columns)} columns. Remove the extra separators, and close every "
            'cell that starts with a quotation mark (write "" for a quotation mark inside it).'
        )


def value_of(cell: str) -> str:
    """Return the value in a cell that is no id: without blanks at its ends; ``""`` for ``nan``."""
    cell = cell.strip()
    return "" if cell == "nan" else cell


def _surrogates(encoding: str) -> str:
    """Return the error handler for lone surrogates, which only some encodings can represent."""
    return "surrogatepass" if encoding.lower().startswith("utf") else "strict"


def write_atomic_file(
    path: Path, header: list[str], rows: Iterable[list[str]], config: RunConfig
) -> None:
    """Write an atomic file that RecBole and :class:`AtomicFile` read back, whole or not at all.

    Parameters
    ----------
    path : Path
        The file.
    header : list of str
        ``name:type`` of each column; the first one is that of the ids.
    rows : iterable of list of str
        Cells.
    config : recbole_llmkt.config.Config
        For ``field_separator`` and ``encoding``; characters that the encoding lacks become ``?``.

    Raises
    ------
    DataError
        The encoding lacks a character of an id.
    """
    text = io.StringIO(newline="")
    encoding = _encoding(config)
    surrogates = _surrogates(encoding)
    writer = csv.writer(text, delimiter=config["field_separator"], lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        try:
            row[0].encode(encoding, errors=surrogates)
        except UnicodeEncodeError as error:
            raise DataError(
                f"The id {row[0]!a} cannot be written in {encoding}: set encoding: utf-8."
            ) from error
        writer.writerow(row)
    errors = surrogates if surrogates == "surrogatepass" else "replace"
    replace_file(path, text.getvalue().encode(encoding, errors=errors), "--output")
