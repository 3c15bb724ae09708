"""Which column is what: as the user says, else by its name, else by what is in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pandas as pd

from recbole_llmkt.datasets.domains import words_of
from recbole_llmkt.datasets.importing.cleaning import with_points
from recbole_llmkt.datasets.importing.reading import Table
from recbole_llmkt.datasets.importing.times import parse_times
from recbole_llmkt.utils.exceptions import DataError, nearest

# Names of columns, in words, the likeliest first.
_NAMES = {
    "user": "user id|user|userid|uid|customer id|customer|client id|client|member id|member|"
    "account id|account|reviewer id|visitor id|buyer|email|e mail|mail|session id",
    "item": "item id|item|itemid|iid|sku|product id|product|article id|article|asin|isbn|"
    "movie id|movie|book id|book|track id|track|song id|song|news id|content id",
    "time": "timestamp|time|datetime|date|created at|ordered at|order date|order time|"
    "purchased at|purchase date|unix review time|event time|ts|when",
    "rating": "rating|stars|score|overall|review score",
    "title": "title|name|product name|item name|product title|movie title|headline|label|track",
    "category": "category|categories|cat|genre|genres|category path|product category|class|tags|"
    "tag|department|type",
    "text": "description|text|summary|abstract|overview|plot|content|details|long description|body",
}
_SAMPLE = 1000
_NEARLY_ALL = 0.9
_SEPARATORS = (" > ", ">", "|", ";", " / ", ",")
_OFTEN = 0.25
_RECENT = (631_152_000, 2_208_988_800)  # the years from 1990 to 2039


@dataclass
class Roles:
    """What the columns of one table are.

    Attributes
    ----------
    table : Table
        The table.
    columns : dict of str to str
        Role (``"user"``, ``"title"``, ...) to column.
    reasons : dict of str to str
        Role to why this column was taken.
    """

    table: Table
    columns: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def give(self, role: str, column: str | None) -> None:
        """Take the column that the user named; None names none.

        Raises
        ------
        DataError
            The table has no such column, or it has another role already.
        """
        if column is None:
            return
        names = list(self.table.frame.columns)
        if column not in names:
            raise DataError(
                f"'{self.table.path}' has no column '{column}' (--{role}); there are "
                f"{', '.join(names)}.{nearest(column, names)}"
            )
        other = next((key for key, name in self.columns.items() if name == column), None)
        if other:
            raise DataError(f"--{role} and --{other} cannot both be the column '{column}'.")
        self._take(role, column, f"--{role}")

    def guess(self, role: str) -> None:
        """Take the column whose name says that it has a role, and whose values do not deny it."""
        if role in self.columns:
            return
        free = {" ".join(words_of(str(name))): str(name) for name in self.free()}
        for likely in _NAMES[role].split("|"):
            if likely in free and self._fits(role, free[likely]):
                self._take(role, free[likely], "by its name")
                return
        for words, name in free.items():
            last = [likely.split()[-1] for likely in _NAMES[role].split("|") if likely != "e mail"]
            is_named = set(words.split()).intersection({*last} - {"id", "at"})
            if is_named and self._fits(role, name):
                self._take(role, name, "by a word in its name")
                return

    def guess_time(self) -> None:
        """Take the column of dates: by name, else by its values."""
        self.guess("time")
        if "time" in self.columns:
            return
        numeric = {
            name: self.sample(name).str.fullmatch(r"-?\d+(\.\d+)?").all() for name in self.free()
        }
        for name in sorted(numeric, key=lambda name: bool(numeric[name])):  # dates before numbers
            if self._fits("time", name) and (not numeric[name] or self._is_recent(name)):
                self._take("time", name, "its values are dates")
                return

    def guess_by_values(self, role: str, others: Mapping[str, Collection[str]], where: str) -> str:
        """Take the column that shares most values with a column of another table.

        Parameters
        ----------
        role : str
            ``"user"`` or ``"item"``.
        others : mapping of str to collection of str
            Columns of the other table.
        where : str
            The other table, for the reason.

        Returns
        -------
        str
            The other table's column; ``""`` if none shares half of the values, of
            its own or of the other one.
        """
        mine = [self.columns[role]] if role in self.columns else self.free()
        best, most, partner = "", 0, ""
        for name in mine:
            values = set(self.table.frame[name].unique()) - {""}
            for other, known in others.items():
                common = len(values.intersection(known))
                if common > most and common > 0.5 * min(len(values), len(known)):
                    best, most, partner = name, common, other
        if best and role not in self.columns:
            self._take(role, best, f"{most:,} of its values are in '{partner}' of {where}")
        return partner

    def free(self) -> list[str]:
        """Return the columns without a role."""
        return [name for name in self.table.frame.columns if name not in self.columns.values()]

    def sample(self, column: str) -> pd.Series:
        """Return the first values of a column that are there."""
        cells = self.table.frame[column]
        return cells[cells != ""].iloc[:_SAMPLE]

    def _is_recent(self, column: str) -> bool:
        """Whether numbers, read as moments, are all of our time: those of ids hardly are."""
        seconds = parse_times(self.sample(column))[0]
        return bool(((seconds > _RECENT[0]) & (seconds < _RECENT[1])).all())

    def _take(self, role: str, column: str, reason: str) -> None:
        self.columns[role] = column
        self.reasons[role] = reason

    def _fits(self, role: str, column: str) -> bool:
        cells = self.sample(column)
        if role == "time":
            return len(cells) > 0 and pd.notna(parse_times(cells)[0]).mean() >= _NEARLY_ALL
        if role == "rating":
            return (
                len(cells) > 0 and pd.to_numeric(with_points(cells), errors="coerce").notna().all()
            )
        if role == "title":  # an id or a number is none
            return len(cells) > 0 and not pd.to_numeric(cells, errors="coerce").notna().all()
        return True


def split_choice(choice: str | None, columns: Collection[str]) -> tuple[str | None, str | None]:
    """Split ``cat:>`` into a column and the separator of its parts.

    Examples
    --------
    >>> split_choice("cat:>", ["cat"]), split_choice("cat", ["cat"]), split_choice("a:b", ["a:b"])
    (('cat', '>'), ('cat', None), ('a:b', None))
    """
    if choice is None or choice in columns or ":" not in choice:
        return choice, None
    column = choice.partition(":")[0] if choice.endswith("::") else choice.rpartition(":")[0]
    return column, choice[len(column) + 1 :]


def guess_separator(cells: pd.Series) -> str | None:
    """Return what separates the parts of a category column; None if each cell is one part.

    A separator stands in a quarter of the cells at least, and its parts occur in several of them.
    """
    filled = cells[cells != ""].drop_duplicates()
    for mark in _SEPARATORS:
        having = filled[filled.str.contains(mark, regex=False)]
        if len(having) < _OFTEN * len(filled) or having.empty:
            continue
        parts = {part.strip() for cell in having for part in cell.split(mark)}
        if mark.strip() in ">|" or len(parts) < len(filled):
            return mark.strip()
    return None
