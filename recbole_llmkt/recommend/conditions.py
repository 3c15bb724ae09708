"""Conditions on columns of the item file: ``category=Books``, ``price<20``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from recbole_llmkt.datasets.atomic import AtomicFile, value_of
from recbole_llmkt.datasets.metadata import metadata_path
from recbole_llmkt.utils.exceptions import ConfigError, DataError
from recbole_llmkt.utils.types import RunConfig

_FORM = re.compile(r"\s*([^=!<>]+?)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*", re.DOTALL)
_ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Condition:
    """A condition on an item's values in one column.

    Attributes
    ----------
    column : str
        Its name in the ``.item`` file.
    sign : str
        ``=`` (one of the item's values is equal), ``!=`` (none is), or ``<``, ``<=``, ``>``, ``>=``
        for numbers. An item without a value meets only ``!=``.
    value : str
        What the values are compared with.
    """

    column: str
    sign: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition.

        Raises
        ------
        ConfigError
            It has another form, or needs a number and has none.

        Examples
        --------
        >>> Condition.parse("price <= 20")
        Condition(column='price', sign='<=', value='20')
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise ConfigError(
                f"Cannot read the condition '{text}': write COLUMN=VALUE, such as category=Books, "
                "or one of != < <= > >= instead of =."
            )
        condition = cls(*match.groups())
        if condition.sign in _ORDERS and _number(condition.value) is None:
            raise ConfigError(f"'{text}' compares with '{condition.value}', which is not a number.")
        return condition

    def holds(self, values: Sequence[str]) -> bool:
        """Tell whether an item with these values meets the condition."""
        if self.sign in ("=", "!="):
            return any(self._equals(value) for value in values) == (self.sign == "=")
        limit = float(self.value)
        numbers = [number for value in values if (number := _number(value)) is not None]
        return any(_ORDERS[self.sign](number, limit) for number in numbers)

    def _equals(self, value: str) -> bool:
        if value == self.value:
            return True
        number = _number(value)
        return number is not None and number == _number(self.value)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def items_meeting(config: RunConfig, conditions: Iterable[Condition]) -> set[str]:
    """Return the tokens of the items that meet all conditions.

    Parameters
    ----------
    config : recbole_llmkt.config.Config
        For the ``.item`` file, whose columns are read whether ``load_col`` names them or not.
    conditions : iterable of Condition

    Raises
    ------
    DataError
        The file or a column is missing, or no item meets all conditions.
    """
    conditions = list(conditions)
    path = metadata_path(config, "item")
    if not path.is_file():
        raise DataError(
            f"Conditions need the item file '{path}', which does not exist: add it in RecBole's "
            "atomic format, or leave the conditions out."
        )
    table = AtomicFile(path, config)
    id_field = table.require(config["ITEM_ID_FIELD"], "ITEM_ID_FIELD")
    for condition in conditions:
        table.require(condition.column, "the condition's column")
    meeting = {
        row[id_field]
        for row in table.rows()
        if all(each.holds(_values(table, each.column, row)) for each in conditions)
    }
    if not meeting:
        texts = ", ".join(f"{each.column}{each.sign}{each.value}" for each in conditions)
        raise DataError(f"No item of '{path}' meets {texts}: check the values.")
    return meeting


def _values(table: AtomicFile, column: str, row: dict[str, str]) -> list[str]:
    """Return a cell's values; the words of a sequence also count as one phrase."""
    values = [value for part in table.split(column, row) if (value := value_of(part))]
    whole = value_of(row[column])
    return [*values, whole] if whole and whole not in values else values
