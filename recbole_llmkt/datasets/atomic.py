"""RecBole's atomic files, read and written cell by cell."""

from __future__ import annotations

import ast
import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from recbole_llmkt.utils.exceptions import DataError, nearest
from recbole_llmkt.utils.files import replace_file


class AtomicFile:
    """One of RecBole's atomic files, whose quoted cells may hold anything, as RecBole reads it.

    Parameters
    ----------
    path : Path
        The file.
    config : recbole_llmkt.config.Config
        For ``field_separator``, ``seq_separator`` and ``encoding``; a byte-order mark is passed
        over.

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

    def __init__(self, path: Path, config: Any) -> None:
        self.path = path
        self.separator: str = config["field_separator"]
        self.seq_separator: str = config["seq_separator"]
        encoding = str(config["encoding"] or "utf-8")
        self.encoding = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
        header = next(self._lines(), [])
        self.columns = [name.rpartition(":")[0] or name for name in header]
        self.types = {
            name: declared.rpartition(":")[2] for name, declared in zip(self.columns, header)
        }

    def require(self, column: str, key: str) -> str:
        """Return a column's name if the file has it; ``key`` is where to mend it."""
        if column not in self.columns:
            raise DataError(
                f"'{self.path}' has no column '{column}'; there are {', '.join(self.columns)}. "
                f"Set {key} to one of them.{nearest(column, self.columns)}"
            )
        return column

    def rows(self) -> Iterator[dict[str, str]]:
        """Give each row as column -> cell, to the letter as RecBole reads tokens.

        Blanks at the ends stay, also those that Python's ``strip`` takes (U+00A0), and so do ids
        such as ``NaN``, ``null``, ``1e5`` and ``007``.
        """
        lines = self._lines()
        next(lines, None)
        for cells in lines:
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
                encoding=self.encoding, newline="", errors=_surrogates(self.encoding)
            ) as file:
                lines = csv.reader(file, delimiter=self.separator)
                columns = None
                for cells in lines:
                    columns = columns or len(cells)
                    if len(cells) > columns or any(map(self._swallowed, cells)):
                        raise DataError(self._too_long(lines.line_num, len(cells), columns))
                    if any(cells):
                        yield cells
        except OSError as error:
            raise DataError(f"Cannot read '{self.path}': {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise DataError(
                f"'{self.path}' is not {self.encoding}: {error.reason} at byte {error.start}. "
                "Set encoding to the file's (latin-1, for example), or convert it."
            ) from error
        except (csv.Error, TypeError) as error:
            raise DataError(
                f"Cannot read '{self.path}': {error}. Check field_separator."
            ) from error

    def _swallowed(self, cell: str) -> bool:
        """Whether a quotation mark that is never closed took in the next row."""
        return "\n" in cell and self.separator in cell

    def _too_long(self, number: int, n_cells: int, n_columns: int) -> str:
        return (
            f"Line {number} of '{self.path}' ends a row of {n_cells} cells, but the header names "
            f"{n_columns} columns. Take the extra separators out of it, and close every cell that "
            'starts with a quotation mark (write "" for a quotation mark inside it).'
        )


def value_of(cell: str) -> str:
    """Return the value in a cell that is no id: without blanks at its ends; ``""`` for ``nan``."""
    cell = cell.strip()
    return "" if cell == "nan" else cell


def _surrogates(encoding: str) -> str:
    """Return how lone surrogates are coded: as they are where the encoding can do that."""
    return "surrogatepass" if encoding.lower().startswith("utf") else "strict"


def write_atomic_file(
    path: Path, header: list[str], rows: Iterable[list[str]], config: Any
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
        For ``field_separator`` and ``encoding``; what the encoding lacks becomes ``?``.

    Raises
    ------
    DataError
        The encoding lacks a character of an id.
    """
    text = io.StringIO(newline="")
    encoding = str(config["encoding"] or "utf-8")
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
    replace_file(path, text.getvalue().encode(encoding, errors=errors))
