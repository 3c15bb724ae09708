"""Dates in any ISO form, and counts of seconds, as seconds since 1970."""

from __future__ import annotations

import re
from datetime import datetime, timezone

import numpy as np
import pandas as pd

from recbole_llmkt.datasets.importing.cleaning import each_once
from recbole_llmkt.utils.types import FloatArray

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE]\+?\d+)?"
_DAY = r"(?:19|20)\d\d(?:(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))?"  # 20240103, or the year alone
_YEAR_LAST = (
    r"^(?P<first>\d{1,2})(?P<sign>[./-])(?P<second>\d{1,2})(?P=sign)\d{4}"
    r"(?: (?P<clock>\d{1,2}:\d\d(?::\d\d)?))?$"
)
_STARTS_WITH_YEAR = r"\d{4}.*"
_WITH_ZONE = re.compile(r".*[T ].*(?:Z|[+-]\d\d(?::?\d\d)?)")
# Cells that say what a column is.
_SAMPLE = 10_000
# ISO's week dates and days of the year, which pandas does not read.
_RARE = ("%G-W%V-%u", "%GW%V%u", "%Y-%j", "%Y%j")
# The least number that is taken for so many parts of a second: 1e11 seconds are in the year 5138.
_UNITS = ((1e17, 1e9, "nanoseconds"), (1e14, 1e6, "microseconds"), (1e11, 1e3, "milliseconds"))
# The calendar's first and last second: 0001-01-01 and 9999-12-31.
_FIRST, _LAST = -62_135_596_800, 253_402_300_799


def parse_times(cells: pd.Series, time_format: str | None = None) -> tuple[FloatArray, str]:
    """Read a column of moments.

    Parameters
    ----------
    cells : pandas.Series of str
        Dates in any ISO form, with or without time and zone, or numbers since 1970; ``""`` is
        missing.
    time_format : str, optional
        Python's directives (``%d.%m.%Y``), for dates that are not ISO.

    Returns
    -------
    seconds : ndarray of float64, shape (n,)
        Seconds since 1970, UTC; NaN where there is no moment, or none that can be read.
    what : str
        How the column was read.
    """
    texts = each_once(cells, str.strip)
    if time_format:
        return _of_dates(texts, time_format), f"dates of the form {time_format}"
    filled = texts[texts != ""]
    sample = filled.iloc[:: max(1, len(filled) // _SAMPLE)]
    if sample.str.fullmatch(_NUMBER).mean() > 0.5 and not sample.str.fullmatch(_DAY).all():
        return _of_numbers(texts)
    form = year_last_form(sample)
    if form:
        return _of_dates(texts, form), f"dates of the form {form}, taken as UTC"
    texts = each_once(texts, _as_iso)
    has_zone = all(map(_WITH_ZONE.fullmatch, filter(None, texts.unique())))
    what = "dates" if has_zone else "dates; those without a zone are taken as UTC"
    return _of_dates(texts, None), what


def year_last_form(cells: pd.Series) -> str | None:
    """Return the form of dates such as ``31.12.2025 14:05`` or ``12/31/2025``.

    With slashes and dashes, a number above 12 must tell the day from the month.

    Parameters
    ----------
    cells : pandas.Series of str
        Some of a column's moments, none of them missing.

    Returns
    -------
    str or None
        Python's directives; None if most are something else, or day and month cannot be told
        apart.
    """
    parts = cells.str.extract(_YEAR_LAST)
    parts = parts[parts["sign"].notna()]
    if len(parts) <= len(cells) / 2 or parts["sign"].nunique() > 1:
        return None
    sign = parts["sign"].iloc[0]
    first_is_month = bool((parts["second"].astype(int) > 12).any())
    if not (first_is_month or sign == "." or (parts["first"].astype(int) > 12).any()):
        return None
    clock = {0: "", 1: " %H:%M", 2: " %H:%M:%S"}[
        int(parts["clock"].fillna("").str.count(":").max())
    ]
    day, month = ("%m", "%d") if first_is_month else ("%d", "%m")
    return f"{day}{sign}{month}{sign}%Y{clock}"


def _as_iso(text: str) -> str:
    text = text.upper().replace(",", ".")
    return f"{text[:-3].rstrip()}Z" if text.endswith("UTC") else text


def _of_numbers(texts: pd.Series) -> tuple[FloatArray, str]:
    numbers = pd.to_numeric(texts.where(texts.str.fullmatch(_NUMBER), ""), errors="coerce")
    usual = float(np.nanmedian(np.abs(numbers)))
    known = ((per_second, name) for least, per_second, name in _UNITS if usual >= least)
    per_second, name = next(known, (1.0, "seconds"))
    seconds = numbers / per_second
    in_calendar = seconds.where((seconds >= _FIRST) & (seconds <= _LAST))
    return in_calendar.to_numpy(dtype=np.float64), f"{name} since 1970"


def _of_dates(texts: pd.Series, time_format: str | None) -> FloatArray:
    """Read each different text once: many rows of a table share a day."""
    codes, different = pd.factorize(texts)
    moments = pd.Series(different, dtype=object)
    readable = moments if time_format else moments.where(moments.str.fullmatch(_STARTS_WITH_YEAR))
    # pandas before 2.0 has no such format, and reads mixed ISO dates without one.
    iso = None if pd.__version__.startswith("1.") else "ISO8601"
    parsed = pd.to_datetime(readable, utc=True, errors="coerce", format=time_format or iso)
    seconds = (parsed - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    left = seconds.isna() & (moments != "")
    if not time_format and left.any():
        seconds = seconds.where(~left, moments[left].map(_rare))
    column: FloatArray = seconds.to_numpy(dtype=np.float64)[codes]
    return column


def _rare(text: str) -> float:
    for form in _RARE:
        try:
            return datetime.strptime(text, form).replace(tzinfo=timezone.utc).timestamp()
        except ValueError:
            continue
    return float("nan")
