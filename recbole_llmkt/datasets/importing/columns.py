"""A table's columns as those of an atomic file: ids, moments, numbers, texts, sequences."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from recbole_llmkt.datasets.importing.cleaning import (
    clean_id,
    clean_text,
    each_once,
    id_problem,
    split_parts,
    with_points,
)
from recbole_llmkt.datasets.importing.guessing import Roles
from recbole_llmkt.datasets.importing.reading import BadRows
from recbole_llmkt.datasets.importing.times import parse_times
from recbole_llmkt.utils.exceptions import DataError
from recbole_llmkt.utils.text import one_line

# Numbers, but for codes such as 007.
_NUMBER = re.compile(r"[-+]?(?:0|[1-9]\d*)?(?:\.\d+)?(?:(?<=\d)[eE][-+]?\d+)?")
_EITHER = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")
_STANDARD = {
    "user": "user_id",
    "item": "item_id",
    "time": "timestamp",
    "rating": "rating",
    "title": "title",
    "category": "category",
    "text": "description",
}
_SHOWN = 3
# Several cells that cannot be read are rows to correct; most of them are another format.
_MOST = 0.5


@dataclass
class Columns:
    """The columns of one atomic file.

    Attributes
    ----------
    frame : pandas.DataFrame
        Texts, ``""`` where a value is missing; float64 in ``timestamp`` and ``rating``; tuples of
        str in ``category``.
    types : dict of str to str
        Column to RecBole's type.
    notes : list of str
        What was left out or changed.
    """

    frame: pd.DataFrame
    types: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Namer:
    """Gives the columns of all files different names: RecBole knows a field by its name alone."""

    def __init__(self) -> None:
        self._used = {*_STANDARD.values(), "label"}

    def __call__(self, name: str, table: str) -> str:
        """Return a name for a column of the ``inter``, ``item`` or ``user`` file."""
        plain = re.sub(r"\W+", "_", name).strip("_") or "column"
        candidates = (plain, f"{table}_{plain}", *(f"{table}_{plain}_{n}" for n in range(2, 1000)))
        chosen = next(candidate for candidate in candidates if candidate not in self._used)
        self._used.add(chosen)
        return chosen


def interactions(
    roles: Roles, bad: BadRows, namer: Namer, time_format: str | None = None
) -> Columns:
    """Make the columns of the ``.inter`` file.

    Rows without a user, an item or a time are left out and counted; rows with a moment, a rating
    or an id that cannot be used are noted in ``bad``, and left out.

    Raises
    ------
    DataError
        Most moments cannot be read.
    """
    notes: list[str] = []
    source = _with_values(roles, ("user", "item", "time"), notes)
    made = Columns(source, notes=notes)
    columns = {role: _ids(roles, role, source, bad, made.notes) for role in ("user", "item")}
    if "time" in roles.columns:
        columns["time"] = _moments(roles, source, bad, time_format)
    if "rating" in roles.columns:
        columns["rating"] = _numbers(roles, "rating", source, bad, made.notes)
    made.frame = pd.DataFrame({_STANDARD[role]: column for role, column in columns.items()})
    made.types = {
        _STANDARD[role]: "token" if role in ("user", "item") else "float" for role in columns
    }
    _add_others(made, roles, source, namer, "inter")
    _leave_out(made, roles, bad)
    return made


def entities(
    roles: Roles, role: str, bad: BadRows, namer: Namer, separator: str | None = None
) -> Columns:
    """Make the columns of the ``.item`` or ``.user`` file: one row for each id, the first one.

    Parameters
    ----------
    roles : Roles
        The table, and which column is what.
    role : str
        ``"item"`` or ``"user"``.
    bad : BadRows
        Rows with an id that cannot be used are noted there, and left out.
    namer : Namer
        Names the further columns.
    separator : str or None
        Between the parts of ``category``.
    """
    notes: list[str] = []
    source = _with_values(roles, (role,), notes)
    made = Columns(source, notes=notes)
    columns = {_STANDARD[role]: _ids(roles, role, source, bad, made.notes)}
    made.types = {_STANDARD[role]: "token"}
    for name in ("title", "text", "category"):
        if name not in roles.columns:
            continue
        cells = source[roles.columns[name]]
        if name == "category":
            columns["category"] = each_once(cells, lambda cell: split_parts(cell, separator))
            made.types["category"] = "token_seq"
        else:
            columns[_STANDARD[name]] = _cleaned(cells, roles.columns[name], made.notes)
            made.types[_STANDARD[name]] = "token"
        _count_missing(cells, roles.columns[name], made.notes)
    made.frame = pd.DataFrame(columns)
    _add_others(made, roles, source, namer, role)
    _leave_out(made, roles, bad)
    n_rows = len(made.frame)
    made.frame = made.frame.drop_duplicates(_STANDARD[role])
    if n_rows > len(made.frame):
        made.notes.append(
            f"{n_rows - len(made.frame):,} further rows of a known '{roles.columns[role]}' left "
            "out: the first one counts"
        )
    return made


# ---- columns -------------------------------------------------------------------------------------


def _with_values(roles: Roles, needed: Sequence[str], notes: list[str]) -> pd.DataFrame:
    """Return the rows that have a value in the needed columns."""
    frame = roles.table.frame
    has_all = pd.Series(True, index=frame.index)
    for role in needed:
        if role in roles.columns:
            column = roles.columns[role]
            is_missing = frame[column].str.strip() == ""
            has_all &= ~is_missing
            if is_missing.any():
                where = [roles.table.place(number) for number in frame.index[is_missing][:_SHOWN]]
                notes.append(
                    f"{is_missing.sum():,} rows without a value in '{column}' left out "
                    f"({_examples(where, int(is_missing.sum()))})"
                )
    return frame[has_all]


def _ids(
    roles: Roles, role: str, source: pd.DataFrame, bad: BadRows, notes: list[str]
) -> pd.Series:
    cells = source[roles.columns[role]]
    tokens = each_once(cells, clean_id)
    changed = cells[cells != tokens].drop_duplicates()
    renamed = [cell for cell in changed if clean_id(cell).endswith(f":{cell}")]
    if renamed:
        notes.append(
            f"ids that RecBole takes for missing values get a prefix: "
            f"{', '.join(f'{cell} is {clean_id(cell)}' for cell in renamed)} (if they are missing "
            f"values: --missing={','.join(renamed)})"
        )
    if len(changed) > len(renamed):
        n_changed = len(changed) - len(renamed)
        notes.append(f"{n_changed:,} ids of '{roles.columns[role]}' composed as Unicode (NFC)")
    problems = {token: reason for token in tokens.unique() if (reason := id_problem(token))}
    for number, token in tokens[tokens.isin(list(problems))].items():
        bad.add(roles.table.path, number, problems[token], roles.table.unit)
    _note_alike(tokens, roles.columns[role], notes)
    return tokens


def _note_alike(tokens: pd.Series, column: str, notes: list[str]) -> None:
    """Tell of ids that differ in blanks or capitals alone: they may be meant as one."""
    different = pd.Series(tokens.unique(), dtype=object)
    forms = different.map(lambda token: "".join(token.split()).casefold())
    alike = different[forms.duplicated(keep=False)]
    if len(alike):
        first = different[forms == forms[alike.index[0]]]
        notes.append(
            f"{len(alike):,} ids of '{column}' differ from another one in blanks or capitals "
            f"alone, and are kept apart ({', '.join(map(repr, first[:_SHOWN]))})"
        )


def _moments(
    roles: Roles, source: pd.DataFrame, bad: BadRows, time_format: str | None
) -> pd.Series:
    column = roles.columns["time"]
    seconds, what = parse_times(source[column], time_format)
    unread = np.isnan(seconds)
    if len(unread) and unread.mean() > _MOST:
        number = source.index[unread][0]
        raise DataError(
            f"'{roles.table.path}': '{one_line(source[column][unread].iloc[0])[:40]}' in column "
            f"'{column}', {roles.table.place(number)}, is neither a clear date nor a number of "
            "seconds, and most others are not either. Name another column with --time, or say how "
            "to read this one: --time-format=%d/%m/%Y"
        )
    roles.reasons["time"] += f"; {what}"
    for number, cell in source[column][unread].items():
        reason = f"'{cell}' in '{column}' is no date"
        bad.add(roles.table.path, number, reason, roles.table.unit)
    return pd.Series(seconds, index=source.index)


def _numbers(
    roles: Roles, role: str, source: pd.DataFrame, bad: BadRows, notes: list[str]
) -> pd.Series:
    cells = _with_points(
        each_once(source[roles.columns[role]], str.strip), roles.columns[role], notes
    )
    numbers = pd.to_numeric(cells, errors="coerce")
    unread = (numbers.isna() | np.isinf(numbers)) & (cells != "")
    for number, cell in cells[unread].items():
        reason = f"'{cell}' in '{roles.columns[role]}' is no number"
        bad.add(roles.table.path, number, reason, roles.table.unit)
    _count_missing(cells, roles.columns[role], notes, "; RecBole takes the mean for them")
    return numbers.astype(float)


def _add_others(
    made: Columns, roles: Roles, source: pd.DataFrame, namer: Namer, table: str
) -> None:
    """Add the columns without a role: numbers as float, all others as cleaned tokens."""
    for column in roles.free():
        cells = each_once(source[column], str.strip)
        filled = [cell for cell in cells.unique() if cell]
        if not filled:
            made.notes.append(f"the column '{column}' is empty, and left out")
            continue
        name = namer(column, table)
        cells = _with_points(cells, column, made.notes)
        is_number = all(map(_NUMBER.fullmatch, filter(None, cells.unique())))
        made.types[name] = "float" if is_number else "token"
        made.frame[name] = cells if is_number else _cleaned(cells, column, made.notes)
        _count_missing(cells, column, made.notes)


def _with_points(cells: pd.Series, column: str, notes: list[str]) -> pd.Series:
    """Write numbers with commas as RecBole reads them, and say so."""
    pointed = with_points(cells)
    changed = cells[cells != pointed]
    if len(changed):
        before = changed.iloc[0]
        notes.append(
            f"numbers of '{column}' have commas: '{before}' is {pointed[changed.index[0]]}"
        )
    elif len(cells) and all(map(_EITHER.fullmatch, filter(None, cells.unique()))):
        example = next(filter(None, cells))
        notes.append(
            f"'{column}' stays text: '{example}' may be with thousands or a decimal comma; write "
            f"'{example.replace(',', '')}' or '{example.replace(',', '.')}' if it is a number"
        )
    return pointed


def _cleaned(cells: pd.Series, column: str, notes: list[str]) -> pd.Series:
    cleaned = each_once(cells, clean_text)
    n_changed = int((cleaned != cells.str.strip()).sum())
    if n_changed:
        notes.append(f"{n_changed:,} texts of '{column}' cleaned of markup, line breaks or blanks")
    return cleaned


def _count_missing(cells: pd.Series, column: str, notes: list[str], effect: str = "") -> None:
    n_missing = int((cells == "").sum())
    if n_missing:
        notes.append(f"{n_missing:,} of {len(cells):,} rows have no '{column}'{effect}")


def _leave_out(made: Columns, roles: Roles, bad: BadRows) -> None:
    """Leave out the rows that are noted as bad."""
    numbers = bad.numbers(roles.table.path)
    if numbers:
        made.frame = made.frame[~made.frame.index.isin(list(numbers))]


def _examples(entries: Sequence[str], n_all: int) -> str:
    return ", ".join(entries) + (", ..." if n_all > len(entries) else "")


def strings(column: pd.Series, join: Callable[[tuple[str, ...]], str]) -> list[str]:
    """Return the cells of a column of :class:`Columns` as they are written."""
    if column.dtype == float:
        return ["" if np.isnan(value) else _shortest(value) for value in column.tolist()]
    return [join(cell) if isinstance(cell, tuple) else cell for cell in column.tolist()]


def _shortest(value: float) -> str:
    return str(int(value)) if value.is_integer() else f"{value:.6f}".rstrip("0").rstrip(".")
