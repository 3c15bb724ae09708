"""What a key's value may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from recbole_llmkt.utils.exceptions import nearest
from recbole_llmkt.utils.text import address_problem

LARGEST_INT = 2**31 - 1
LARGEST_FLOAT = 1e9
# A rule gets values of the key's own type only, and so names that.
Check = Callable[[Any], "str | None"]


@dataclass(frozen=True)
class Key:
    """A key of the configuration, and what its value may be.

    Attributes
    ----------
    name : str
        The key.
    type : str
        ``bool``, ``int``, ``float``, ``str`` or ``dict``: the type of one value.
    default : object
        Its value unless something sets it.
    meaning : str
        One line for users.
    low, high : float, optional
        Smallest and largest number; infinity and NaN are never allowed.
    above : bool
        Whether ``low`` itself is too small.
    choices : tuple of str
        Allowed values; empty: any.
    class_path : bool
        Whether the path of a class is allowed besides ``choices``.
    optional : bool
        Whether None (``~``) is allowed.
    many : str
        ``"some"`` allows a list of values, too, ``"list"`` a list only.
    rule : callable, optional
        What else must hold: returns what the value must be, or None.
    every_arm : bool
        Whether the key counts without knowledge transfer, too.
    words : tuple of str
        Strings that are allowed besides values of the type.
    """

    name: str
    type: str
    default: object = None
    meaning: str = ""
    low: float | None = None
    high: float | None = None
    above: bool = False
    choices: tuple[str, ...] = ()
    class_path: bool = False
    optional: bool = False
    many: Literal["", "some", "list"] = ""
    rule: Check | None = None
    every_arm: bool = False
    words: tuple[str, ...] = ()

    @property
    def type_words(self) -> str:
        """Return the type as users read it."""
        return {"some": f"{self.type} or list", "list": f"list of {self.type}"}.get(
            self.many, self.type
        )

    @property
    def allowed(self) -> str:
        """Return the range or the choices as users read them."""
        if self.words:
            return ", ".join(("True", "False", *self.words))
        if self.choices:
            return ", ".join(self.choices) + (" or a class path" if self.class_path else "")
        return self._range() if self.low is not None or self.high is not None else ""

    def refusal(self, value: object) -> str | None:
        """Return what a value must be, or None if ``value`` is good."""
        if value is None and self.optional:
            return None
        values = value if self.many and isinstance(value, (list, tuple)) else [value]
        plain = self.many == "list" and self.type == "str" and not self.choices
        if self.many == "list" and values is not value:
            return f"a list{' of strings' if plain else ''}, like [A, B] or []."
        if self.many == "some" and not values:
            return "not an empty list."
        refusals = (self._refusal_of_value(single) for single in values)
        wrong = next((words for words in refusals if words), None)
        if wrong and plain:
            return "a list of strings, like [A, B] or []."
        return wrong or (self.rule(value) if self.rule else None)

    def _refusal_of_value(self, value: object) -> str | None:
        if self.choices:
            return self._refusal_of_choice(value)
        if isinstance(value, str) and value in self.words:
            return None
        check = _TYPE_CHECKS.get(self.type)
        if check is not None:
            refusal = check(value)
            return refusal and " or ".join([refusal.rstrip("."), *self.words]) + "."
        if self.type not in ("int", "float"):  # the rule says it all
            return None
        kinds = (int,) if self.type == "int" else (int, float)
        if isinstance(value, kinds) and not isinstance(value, bool) and self._within(value):
            return None
        return f"{'an integer' if self.type == 'int' else 'a number'} {self._range()}."

    def _refusal_of_choice(self, value: object) -> str | None:
        own_class = self.class_path and isinstance(value, str) and "." in value
        if own_class or (isinstance(value, str) and value in self.choices):
            return None
        more = " or a class path (my_package.my_module.MyClass)" if self.class_path else ""
        hint = nearest(shown(value), self.choices)
        return f"one of {', '.join(self.choices)}{more}.{hint}"

    def _within(self, value: float) -> bool:
        low, high = self._limits()
        return low <= value <= high and not (self.above and value == low)

    def _limits(self) -> tuple[float, float]:
        largest = LARGEST_INT if self.type == "int" else LARGEST_FLOAT
        return (
            -largest if self.low is None else self.low,
            largest if self.high is None else self.high,
        )

    def _range(self) -> str:
        low, high = self._limits()
        if self.above:
            return f"above {low}" + ("" if self.high is None else f", up to {high}")
        return f"from {low} to {high}" if self.high is not None else f"of {low} or more"


def shown(value: object) -> str:
    """Return a value as text for a message: at most 80 characters, and no other line."""
    try:
        text = " ".join(str(value).split())
    except (ValueError, RecursionError):  # Python writes no integers of more than 4,300 digits
        return f"a huge {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _boolean(value: object) -> str | None:
    return None if isinstance(value, bool) else "True or False."


def _text(value: object) -> str | None:
    return None if isinstance(value, str) and value else "a non-empty string."


def _mapping(value: object) -> str | None:
    return None if isinstance(value, Mapping) else "a mapping, like {key: value}."


def address(value: object) -> str | None:
    """Refuse what is no address of a server."""
    problem = address_problem(value) if isinstance(value, str) else None
    return problem and f"the address of a server. {problem}."


_TYPE_CHECKS: dict[str, Check] = {"bool": _boolean, "str": _text, "dict": _mapping}
