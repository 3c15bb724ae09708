"""Jinja2 for untrusted prompts: no code runs, and time and memory are limited."""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar, overload

from jinja2 import StrictUndefined, Template, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer
from typing_extensions import ParamSpec

from recbole_llmkt.utils.types import Values

P = ParamSpec("P")
T = TypeVar("T")

_MOST_STEPS = 300_000  # rounds of loops, calls, filters and shown values of one prompt
_MOST_SECONDS = 5.0
_LONGEST = 1_000_000  # characters of a text, elements of a list
_LARGEST_PRODUCT = 10**8  # of the sizes of what one operation gets: what it may need for a moment
_LARGEST_NUMBER = 2**64
_SIZED = (str, bytes, list, tuple, dict, int)
_WIDE_FORMAT = re.compile(r"\d{4,}|\*")


class _Budget:
    """What is left of the time and the steps of one prompt."""

    def __init__(self) -> None:
        self._steps = 0
        self._end = time.monotonic() + _MOST_SECONDS

    def spend(self) -> None:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise SecurityError(f"it takes more than {_MOST_STEPS:,} steps")
        if self._steps % 16 == 0 and time.monotonic() > self._end:
            raise SecurityError(f"it takes more than {_MOST_SECONDS:g} seconds")


_BUDGET: ContextVar[_Budget | None] = ContextVar("budget of a prompt", default=None)


@contextmanager
def bounded() -> Iterator[None]:
    """Give all templates that are filled in within the block one budget of time and steps."""
    token = _BUDGET.set(_Budget())
    try:
        yield
    finally:
        _BUDGET.reset(token)


def fill(template: Template, variables: Values) -> str:
    """Fill in a template, inside :func:`bounded`.

    Raises
    ------
    Exception
        Of any kind, where the template is wrong; jinja2's ``SecurityError`` where it would take
        too much time or memory.
    """
    parts: list[str] = []
    length = 0
    for part in template.generate(variables):
        length += len(part)
        if length > _LONGEST:
            _check_length(length)
        parts.append(part)
    return "".join(parts)


def compiled(source: str) -> Template:
    """Compile a template, with a guard around whatever can grow or take long."""
    tree = _ENVIRONMENT.parse(source)
    _Guard().visit(tree)
    return Template.from_code(_ENVIRONMENT, _ENVIRONMENT.compile(tree), {**_ENVIRONMENT.globals})


# ---- the guards -------------------------------------------------------------------------------


def _spend() -> None:
    budget = _BUDGET.get()
    if budget is not None:
        budget.spend()


def _check_length(length: int) -> None:
    if length > _LONGEST:
        raise SecurityError(f"it makes a text or a list of more than {_LONGEST:,} parts")


def _size(value: int | Sized) -> int:
    """Return the size of one of :data:`_SIZED`; at least 1."""
    if isinstance(value, int):
        return max(1, abs(value))
    return max(1, len(value))


def _check_inputs(values: Iterable[object]) -> None:
    product = 1
    for value in values:
        product *= _size(value) if isinstance(value, _SIZED) else 1
        if product > _LARGEST_PRODUCT:
            raise SecurityError("it handles numbers or texts that are too large")


def _checked(value: T) -> T:
    """Return a value that is not too long, nor nested so deeply that showing it takes forever."""
    if isinstance(value, str):
        _check_length(len(value))
        return value
    stack: list[object] = [value]
    seen = 0
    while stack:
        inner = stack.pop()
        seen += 1
        if isinstance(inner, (str, bytes)):
            _check_length(len(inner))
        elif isinstance(inner, (list, tuple)):
            _check_length(seen + len(inner))
            stack.extend(inner)
        elif isinstance(inner, dict):
            _check_length(seen + len(inner))
            stack.extend(inner.values())
    return value


def _guarded(function: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(function)
    def guarded(*arguments: P.args, **keywords: P.kwargs) -> T:
        _spend()
        _check_inputs([*arguments, *keywords.values()])
        return _checked(function(*arguments, **keywords))

    return guarded


def _counted(values: Iterable[T]) -> Iterator[T]:
    for value in values:
        _spend()
        yield value


_GROWING = (nodes.Concat, nodes.List, nodes.Dict, nodes.Tuple)


class _Guard(NodeTransformer):
    """Put a guard around what no environment can intercept: loops, ``~``, literals, blocks."""

    def visit(self, node: nodes.Node, *args: object, **kwargs: object) -> nodes.Node:
        """Guard what is inside a node first, then the node itself."""
        self.generic_visit(node)
        if isinstance(node, nodes.For):
            node.iter = _through("counted", node.iter)
        elif isinstance(node, nodes.AssignBlock):
            node.filter = _through("checked", node.filter)
        # Not the tuple of names that a loop sets.
        elif isinstance(node, _GROWING) and getattr(node, "ctx", "load") == "load":
            return _through("checked", node)
        return node


def _through(name: str, node: nodes.Node | None) -> nodes.Filter:
    lineno = None if node is None else node.lineno
    return nodes.Filter(node, name, [], [], None, None, lineno=lineno)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        _spend()
        numbers = [number for number in (left, right) if isinstance(number, (int, float))]
        if any(abs(number) > _LARGEST_NUMBER for number in numbers):
            raise SecurityError("it handles numbers that are too large")
        if operator == "**" and isinstance(right, (int, float, complex)) and abs(right) > 64:
            raise SecurityError("it handles numbers that are too large")
        if operator == "%" and isinstance(left, str):
            _check_format(left)
        if len(numbers) < 2 and operator in "*%":
            _check_inputs([left, right])
        return _checked(super().call_binop(context, operator, left, right))

    def call(
        __self,  # noqa: N805
        __context: Context,
        __obj: object,
        *args: object,
        **kwargs: object,
    ) -> object:
        _spend()
        owner = getattr(__obj, "__self__", None)
        _check_inputs([owner, *args, *kwargs.values()])
        return _checked(super().call(__context, __obj, *args, **kwargs))

    def is_safe_attribute(self, obj: object, attr: str, value: object) -> bool:
        # A width inside a format is seen by no guard; the filter `format` does the same.
        is_format = isinstance(obj, str) and attr in ("format", "format_map")
        return not is_format and super().is_safe_attribute(obj, attr, value)


def _check_format(text: str) -> None:
    if _WIDE_FORMAT.search(text):
        raise SecurityError("it handles numbers that are too large")


def _format(value: object, *arguments: object, **keywords: object) -> str:
    """Fill in ``%s`` and its like: Jinja2's own filter, without widths that fill the memory."""
    _check_format(str(value))
    return str(value) % (keywords or arguments)


def shown(value: object) -> object:
    """Return how a prompt shows a value: lists and their like joined with commas.

    Examples
    --------
    >>> shown(["Drama", "War"]), shown({"year": 1993, "genres": ["War"]})
    ('Drama, War', 'year: 1993, genres: War')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return ", ".join(f"{name}: {shown(part)}" for name, part in _counted(value.items()))
    if isinstance(value, (list, tuple, set, frozenset, Iterator)):
        return ", ".join(str(shown(part)) for part in _counted(value))
    return value


class ShownList(list[object]):
    """A list that is text in any place of a prompt as :func:`shown` says, in filters and ``~``."""

    def __str__(self) -> str:
        return str(shown(self))


class ShownDict(Values):
    """A mapping that is text in any place of a prompt as :func:`shown` says."""

    def __str__(self) -> str:
        return str(shown(self))


@overload
def for_prompts(value: Values) -> ShownDict: ...


@overload
def for_prompts(value: object) -> object: ...


def for_prompts(value: object) -> object:
    """Return a template's variable whose lists and mappings, at any depth, are shown as text."""
    if isinstance(value, (str, ShownList, ShownDict)):
        return value
    if isinstance(value, dict):
        return ShownDict({name: for_prompts(part) for name, part in value.items()})
    if isinstance(value, (list, tuple)):
        return ShownList(map(for_prompts, value))
    return value


def _make_environment() -> _Environment:
    environment = _Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        optimized=False,  # nothing is computed while a template is compiled
        finalize=shown,
    )
    # Every line of a history is a template of its own, and copies these first: keep them few.
    environment.globals = {"range": environment.globals["range"]}
    # Jinja2's own tojson escapes for HTML: language models read \u0027 worse than an apostrophe.
    environment.filters["tojson"] = functools.partial(json.dumps, ensure_ascii=False)
    environment.filters["format"] = _format
    environment.filters = {
        name: _guarded(function) for name, function in environment.filters.items()
    }
    environment.filters.update(counted=_counted, checked=_checked)
    return environment


_ENVIRONMENT = _make_environment()
