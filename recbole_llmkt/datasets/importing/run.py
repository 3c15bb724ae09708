"""An import from the first file to the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from recbole_llmkt.datasets.domains import guess_domain
from recbole_llmkt.datasets.importing.columns import Columns, Namer, entities, interactions
from recbole_llmkt.datasets.importing.guessing import Roles, guess_separator, split_choice
from recbole_llmkt.datasets.importing.reading import BadRows, Reading, Table, read_table
from recbole_llmkt.datasets.importing.repeats import (
    in_time_order,
    repeated_in_test,
    without_duplicates,
    without_repeats,
)
from recbole_llmkt.datasets.importing.writing import check_target, write_dataset
from recbole_llmkt.utils.exceptions import BadRowsError, DataError

_INTER_ROLES = ("user", "item", "time", "rating")
_ITEM_ROLES = ("title", "category", "text")


@dataclass(frozen=True)
class Import:
    """What to import, and how.

    Attributes
    ----------
    source : Path
        The table of interactions: orders, ratings, clicks.
    dataset : str
        Name of the dataset.
    output : Path
        RecBole's ``data_path``; the files go to ``<output>/<dataset>``.
    user, item, time, rating : str or None
        Columns of the interactions; None guesses.
    items, users : Path or None
        Tables of the items and of the users.
    title, category, text : str or None
        Columns of ``items`` (of ``source`` without it); ``category`` may end in a colon and the
        sign between its parts. None guesses.
    repeats : str
        Which of a user's interactions with one item count: ``first``, ``last``, or ``keep`` them.
    domain : str or None
        What the items are; None guesses.
    time_format : str or None
        Python's directives, for dates that are not ISO.
    overwrite, skip_bad_rows : bool
        Replace files of an earlier import; leave out rows that cannot be used.
    reading : Reading
        Encoding, separator, missing values.
    command : str
        For the first line of the written configuration.
    """

    source: Path
    dataset: str
    output: Path = Path("dataset")
    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None
    items: Path | None = None
    users: Path | None = None
    title: str | None = None
    category: str | None = None
    text: str | None = None
    repeats: str = "first"
    domain: str | None = None
    time_format: str | None = None
    overwrite: bool = False
    skip_bad_rows: bool = False
    reading: Reading = field(default_factory=Reading)
    command: str = "llmkt import"


@dataclass(frozen=True)
class Imported:
    """What an import made.

    Attributes
    ----------
    config_file : Path
        The configuration for all other commands.
    report : list of str
        What was guessed, read, left out and written.
    has_titles : bool
        Whether profiles can be written.
    """

    config_file: Path
    report: list[str]
    has_titles: bool


def import_data(job: Import) -> Imported:
    """Turn tables into atomic files and a configuration.

    Raises
    ------
    DataError
        A table cannot be read, a column cannot be guessed, rows cannot be used (they are listed,
        with their lines), or the files are there already. Nothing is written then.
    """
    with_items = job.items is not None or job.title is not None
    if not with_items and (job.category or job.text):
        raise DataError(
            "--category and --text are columns of the items: name their table with --items, or "
            f"their titles in '{job.source}' with --title."
        )
    making = {"inter", "yaml"} | ({"item"} if with_items else set())
    making |= {"user"} if job.users else set()
    folder = job.output / job.dataset
    check_target(folder, job.dataset, making, job.overwrite)
    bad = BadRows()
    orders = Roles(read_table(job.source, job.reading, bad))
    items = Roles(read_table(job.items, job.reading, bad)) if job.items else None
    users = Roles(read_table(job.users, job.reading, bad)) if job.users else None
    names = [name for roles in (orders, items, users) if roles for name in roles.table.frame]
    _find_roles(job, orders, items, users)
    if items is None and with_items:
        items = _items_of(job, orders)
    separator = _find_item_columns(job, items) if items else None
    namer = Namer()
    tables = {"inter": interactions(orders, bad, namer, job.time_format)}
    if items:
        tables["item"] = entities(items, "item", bad, namer, separator)
    if users:
        tables["user"] = entities(users, "user", bad, namer)
    _refuse_bad(bad, job.skip_bad_rows)
    report = _roles_report([roles for roles in (orders, items, users) if roles], separator)
    domain, because = guess_domain([*names, job.dataset])
    if job.domain:
        domain, because = job.domain, "--domain"
    report.append(f"domain: {domain}" + (f" ({because})" if because else ""))
    report += [f"{suffix}: {note}" for suffix, made in tables.items() for note in made.notes]
    if bad.reasons:
        report += [f"{len(bad.reasons):,} rows that cannot be used left out:", bad.listing()]
    report += _settle_repeats(tables["inter"], job.repeats)
    report += _compare_ids(tables)
    config_file = write_dataset(folder, job.dataset, tables, domain, job.command)
    report += _written(folder, job.dataset, tables)
    has_titles = "item" in tables and "title" in tables["item"].types
    return Imported(config_file, report, has_titles)


def _refuse_bad(bad: BadRows, skip: bool) -> None:
    if bad.reasons and not skip:
        raise BadRowsError(
            f"{len(bad.reasons):,} rows cannot be used, and nothing was written:\n{bad.listing()}\n"
            "Correct them, or leave them out with --skip-bad-rows."
        )


# ---- which column is what ------------------------------------------------------------------------


def _find_roles(job: Import, orders: Roles, items: Roles | None, users: Roles | None) -> None:
    for role in _INTER_ROLES:
        orders.give(role, getattr(job, role))
    orders.guess_time()
    for role in ("item", "user"):
        orders.guess(role)
    for role, other in (("item", items), ("user", users)):
        if other is not None:
            _join(role, orders, other)
        if role not in orders.columns:
            raise DataError(
                f"Cannot tell which column of '{job.source}' holds the {role}s: name it with "
                f"--{role}. There are {', '.join(orders.table.frame.columns)}."
            )
    orders.guess("rating")


def _join(role: str, orders: Roles, other: Roles) -> None:
    """Find the column of another table that holds the ids of the interactions."""
    known = {name: set(other.table.frame[name]) for name in other.table.frame}
    partner = orders.guess_by_values(role, known, other.table.path.name)
    if partner:
        other.give(role, partner)
        other.reasons[role] = f"it holds the {role}s of {orders.table.path.name}"
        return
    column = orders.columns.get(role)
    if column in known:
        other.give(role, column)
        other.reasons[role] = "it has the same name"
        return
    other.guess(role)
    if role not in other.columns:
        raise DataError(
            f"No column of '{other.table.path}' holds the {role}s of '{orders.table.path}'"
            + (f" (column '{column}')" if column else "")
            + f"; there are {', '.join(known)}. Give its column of ids that name."
        )


def _items_of(job: Import, orders: Roles) -> Roles:
    """Make a table of items from the columns of the interactions."""
    frame = orders.table.frame
    choices = [split_choice(getattr(job, role), list(frame))[0] for role in _ITEM_ROLES]
    columns = [orders.columns["item"], *(name for name in choices if name)]
    for name in columns:
        if name not in frame:
            orders.give("title", name)  # raises, and names the columns
    different = frame[columns].drop_duplicates(orders.columns["item"])
    table = Table(orders.table.path, different.copy(), orders.table.unit)
    orders.table.frame.drop(columns=columns[1:], inplace=True)
    items = Roles(table)
    items.give("item", orders.columns["item"])
    return items


def _find_item_columns(job: Import, items: Roles) -> str | None:
    """Give titles, categories and texts their columns, and return what separates categories."""
    names = list(items.table.frame.columns)
    column, separator = split_choice(job.category, names)
    items.give("title", job.title)
    items.give("category", column)
    items.give("text", job.text)
    for role in _ITEM_ROLES:
        items.guess(role)
    if "category" not in items.columns or separator:
        return separator
    return guess_separator(items.table.frame[items.columns["category"]])


def _roles_report(tables: Sequence[Roles], separator: str | None) -> list[str]:
    lines = []
    for roles in tables:
        for role, column in roles.columns.items():
            sign = f", split at '{separator}'" if role == "category" and separator else ""
            reason = roles.reasons[role]
            lines.append(f"{roles.table.path.name}: {role} is '{column}' ({reason}{sign})")
        others = [str(name) for name in roles.free()]
        lines += _missing(roles)
        if others:
            lines.append(f"{roles.table.path.name}: further columns are {', '.join(others)}")
    return lines


def _missing(roles: Roles) -> list[str]:
    """Say what follows where a column that others need was not found."""
    name = roles.table.path.name
    if {"user", "item"} <= roles.columns.keys() and "time" not in roles.columns:
        return [f"{name}: no column of dates (--time): the split is random"]
    if "item" in roles.columns and "user" not in roles.columns and "title" not in roles.columns:
        return [f"{name}: no column looks like a title (--title): profiles need one"]
    return []


# ---- repeats, and ids of several tables ----------------------------------------------------------


def _settle_repeats(inter: Columns, keep: str) -> list[str]:
    """Drop duplicates, keep which repeats are asked for, and say what repeats would do."""
    n_read = len(inter.frame)
    ordered = in_time_order(inter.frame)
    different = without_duplicates(ordered)
    inter.frame = without_repeats(different, keep)
    if inter.frame.empty:
        raise DataError("No interaction is left: every row lacks a user, an item or a time.")
    lines = []
    if n_read > len(different):
        n_dropped = n_read - len(different)
        lines.append(f"{n_dropped:,} rows of the same user, item and time left out")
    pairs = ["user_id", "item_id"]
    n_repeats = int(different.duplicated(pairs).sum())
    if not n_repeats:
        return [*lines, "no user has the same item twice"]
    lines.append(
        f"{n_repeats:,} of {len(different):,} interactions ({n_repeats / len(different):.0%}) are "
        f"with an item that the user had before"
    )
    if "timestamp" in different:
        shares = repeated_in_test(different)
        parts = ", ".join(f"{share:.0%} under {name}" for name, share in shares.items())
        lines.append(
            f"if all were kept, so many test interactions would repeat a training one: {parts}. "
            "RecBole's full ranking removes a user's other training items from the candidates and "
            "leaves these in, so a model that knows the past finds them, and metrics are inflated"
        )
    effect = {
        "first": "repeats are left out (--repeats=first): the test asks for new items alone",
        "last": "repeats but the last are left out (--repeats=last): the test asks for items that "
        "training does not show, though the user had some of them before",
        "keep": "repeats are kept (--repeats=keep): the metrics say how well a model finds what a "
        "user has had before, and compare with no others",
    }
    return [*lines, effect[keep]]


def _compare_ids(tables: dict[str, Columns]) -> list[str]:
    """Count the users and items that only one of two tables has."""
    lines = []
    for role in ("item", "user"):
        if role not in tables:
            continue
        used = pd.Index(tables["inter"].frame[f"{role}_id"].unique())
        described = pd.Index(tables[role].frame[f"{role}_id"])
        without = used.difference(described, sort=False)
        if len(without):
            shown = ", ".join(repr(token) for token in without[:3])
            lines.append(
                f"{len(without):,} of {len(used):,} {role}s of the interactions are not in the "
                f"table of {role}s ({shown})"
            )
        n_unused = len(described.difference(used, sort=False))
        if n_unused:
            lines.append(f"{n_unused:,} {role}s have no interaction")
    return lines


def _written(folder: Path, dataset: str, tables: dict[str, Columns]) -> list[str]:
    inter = tables["inter"].frame
    counts = f"{inter['user_id'].nunique():,} users, {inter['item_id'].nunique():,} items"
    span = ""
    if "timestamp" in inter:
        # pandas before 3.0 ends in 2262
        ends = inter["timestamp"].iloc[[0, -1]].to_numpy(dtype="int64").astype("datetime64[s]")
        span = f", {ends[0].astype('datetime64[D]')} to {ends[1].astype('datetime64[D]')}"
    lines = [f"{folder / dataset}.inter: {len(inter):,} interactions, {counts}{span}"]
    for suffix in ("item", "user"):
        if suffix in tables:
            lines.append(f"{folder / dataset}.{suffix}: {len(tables[suffix].frame):,} rows")
    return lines
