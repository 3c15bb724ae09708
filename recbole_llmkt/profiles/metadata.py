"""What the atomic files tell about items and users: titles, categories, texts."""

from __future__ import annotations

import ast
import csv
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_llmkt.exceptions import DataError, nearest

logger = logging.getLogger(__name__)

# Column names seen in RecBole's datasets, the likeliest first.
_GUESSES = {
    "title": ("title", "movie_title", "item_title", "name", "item_name", "product_name", "track"),
    "category": ("class", "genre", "genres", "categories", "category", "tags", "tag", "style"),
    "text": ("description", "text", "summary", "abstract", "overview", "plot", "content"),
}


@dataclass(frozen=True)
class ItemMetadata:
    """What is known about one item.

    Attributes
    ----------
    title : str
        Its name.
    categories : tuple of str
        Genres, categories or tags; empty if the file has none.
    text : str
        A description; ``""`` if the file has none.
    other : dict of str to str
        The other columns that have a value.
    """

    title: str
    categories: tuple[str, ...] = ()
    text: str = ""
    other: dict[str, str] = field(default_factory=dict)


def read_item_metadata(config: Any) -> dict[str, ItemMetadata]:
    """Read the ``.item`` file of a dataset, whichever columns ``load_col`` loads.

    ``profile_title_field``, ``profile_category_field`` and ``profile_text_field`` name the
    columns; what is not named is guessed from the header, and the guess is logged.

    Parameters
    ----------
    config : recbole_llmkt.config.Config
        For the paths, separators and column names.

    Returns
    -------
    dict of str to ItemMetadata
        By item token.

    Raises
    ------
    DataError
        There is no ``.item`` file, no title column, or a line cannot be read.
    """
    path = _path(config, "item")
    table = _Table(path, config)
    id_field = table.require(config["ITEM_ID_FIELD"], "ITEM_ID_FIELD")
    title = _choose(table, config, "title")
    category = _choose(table, config, "category")
    text = _choose(table, config, "text")
    if title is None:
        raise DataError(
            f"No column of '{path}' looks like a title; there are {', '.join(table.columns)}. "
            "Set profile_title_field to one of them."
        )
    found = {}
    named = {id_field, title, category, text}
    for row in table.rows():
        found[row[id_field]] = ItemMetadata(
            title=row[title],
            categories=table.split(category, row) if category else (),
            text=row[text] if text else "",
            other={name: value for name, value in row.items() if value and name not in named},
        )
    return found


def read_user_metadata(config: Any) -> dict[str, dict[str, str]]:
    """Read the ``.user`` file: per user token the columns that have a value; ``{}`` without it."""
    path = _path(config, "user")
    if not path.is_file():
        return {}
    table = _Table(path, config)
    id_field = table.require(config["USER_ID_FIELD"], "USER_ID_FIELD")
    return {
        row[id_field]: {name: value for name, value in row.items() if value and name != id_field}
        for row in table.rows()
    }


def _path(config: Any, suffix: str) -> Path:
    return Path(config["data_path"]) / f"{config['dataset']}.{suffix}"


def _choose(table: _Table, config: Any, kind: str) -> str | None:
    key = f"profile_{kind}_field"
    if config[key]:
        return table.require(config[key], key)
    lowered = {name.lower(): name for name in table.columns}
    likely = [name for name in _GUESSES[kind] if name in lowered]
    likely += [name for name in lowered if kind in name and name not in likely]
    if not likely:
        return None
    column = lowered[likely[0]]
    logger.info("%s: taking column '%s' of %s for the %s.", key, column, table.path.name, kind)
    return column


class _Table:
    """An atomic file, read as RecBole reads it: a cell in quotation marks may hold anything."""

    def __init__(self, path: Path, config: Any) -> None:
        self.path = path
        self.separator: str = config["field_separator"]
        self.seq_separator: str = config["seq_separator"]
        encoding = str(config["encoding"] or "utf-8")
        self.encoding = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
        if not path.is_file():
            raise DataError(
                f"There is no file '{path}'. Profiles need the titles in it: add it, in RecBole's "
                "atomic format (item_id:token<TAB>title:token_seq), or correct data_path."
            )
        header = next(self._lines(), [])
        self.columns = [name.rpartition(":")[0] or name for name in header]
        self.types = {
            name: declared.rpartition(":")[2] for name, declared in zip(self.columns, header)
        }

    def require(self, column: str, key: str) -> str:
        if column not in self.columns:
            raise DataError(
                f"'{self.path}' has no column '{column}'; there are {', '.join(self.columns)}. "
                f"Set {key} to one of them.{nearest(column, self.columns)}"
            )
        return column

    def rows(self) -> Iterator[dict[str, str]]:
        """Give each row as column -> cell; a missing value is ``""``."""
        lines = self._lines()
        next(lines)
        for cells in lines:
            missing = len(self.columns) - len(cells)
            yield dict(zip(self.columns, [*map(_clean, cells), *[""] * missing]))

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
            with self.path.open(encoding=self.encoding, newline="") as file:
                lines = csv.reader(file, delimiter=self.separator)
                columns = None
                for cells in lines:
                    columns = columns or len(cells)
                    if len(cells) > columns or any(
                        "\n" in c and self.separator in c for c in cells
                    ):
                        raise DataError(self._too_long(lines.line_num, len(cells), columns))
                    if any(cells):
                        yield cells
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


def _clean(cell: str) -> str:
    cell = cell.strip()
    return "" if cell == "nan" else cell
