"""Metadata of items and users in the atomic files: titles, categories, texts."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from recbole_llmkt.datasets.atomic import AtomicFile, value_of
from recbole_llmkt.utils.exceptions import DataError
from recbole_llmkt.utils.types import RunConfig

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


def read_item_metadata(config: RunConfig) -> dict[str, ItemMetadata]:
    """Read the ``.item`` file of a dataset, whichever columns ``load_col`` loads.

    ``profile_title_field``, ``profile_category_field`` and ``profile_text_field`` name the
    columns; others are guessed from the header, and the guess is logged.

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
    path = metadata_path(config, "item")
    if not path.is_file():
        raise DataError(
            f"There is no file '{path}'. Profiles need the titles in it: add it, in RecBole's "
            "atomic format (item_id:token<TAB>title:token_seq), or correct data_path."
        )
    table = AtomicFile(path, config)
    id_field = table.require(config["ITEM_ID_FIELD"], "ITEM_ID_FIELD")
    title = _choose(table, config, "title")
    category = _choose(table, config, "category")
    text = _choose(table, config, "text")
    if title is None:
        raise DataError(
            f"No column of '{path}' looks like a title; there are {', '.join(table.columns)}. "
            "Set profile_title_field to one of them."
        )
    items = {}
    named = {id_field, title, category, text}
    for cells in table.rows():
        row = {name: value_of(cell) for name, cell in cells.items()}
        items[cells[id_field]] = ItemMetadata(
            title=row[title],
            categories=table.split(category, row) if category else (),
            text=row[text] if text else "",
            other={name: value for name, value in row.items() if value and name not in named},
        )
    return items


def read_user_metadata(config: RunConfig) -> dict[str, dict[str, str]]:
    """Read the ``.user`` file: per user token the columns that have a value; ``{}`` without it."""
    path = metadata_path(config, "user")
    if not path.is_file():
        return {}
    table = AtomicFile(path, config)
    id_field = table.require(config["USER_ID_FIELD"], "USER_ID_FIELD")
    return {
        row[id_field]: {
            name: value
            for name, cell in row.items()
            if name != id_field and (value := value_of(cell))
        }
        for row in table.rows()
    }


def metadata_path(config: RunConfig, suffix: str) -> Path:
    """Return where a dataset's ``.item`` or ``.user`` file is, or would be."""
    return Path(config["data_path"]) / f"{config['dataset']}.{suffix}"


def _choose(table: AtomicFile, config: RunConfig, kind: str) -> str | None:
    key = f"profile_{kind}_field"
    if config[key]:
        return table.require(config[key], key)
    lowered = {name.lower(): name for name in table.columns}
    likely = [name for name in _GUESSES[kind] if name in lowered]
    likely += [name for name in lowered if kind in name and name not in likely]
    if not likely:
        return None
    column = lowered[likely[0]]
    logger.info("%s: using column '%s' of %s for the %s.", key, column, table.path.name, kind)
    return column
