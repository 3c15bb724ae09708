"""Moments in every form that exports have."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recbole_llmkt.datasets.importing.times import parse_times, year_last_form

MOMENT = 1704311603.0  # 2024-01-03T19:53:23Z
DAY = 1704240000.0


def seconds(*texts, **keys):
    return parse_times(pd.Series(texts, dtype=object), **keys)[0].tolist()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2024-01-03T19:53:23Z", MOMENT),
        ("2024-01-03t19:53:23z", MOMENT),
        ("2024-01-03 19:53:23", MOMENT),
        ("2024-01-03 19:53:23 UTC", MOMENT),
        ("2024-01-03T20:53:23+01:00", MOMENT),
        ("2024-01-03 20:53:23+01", MOMENT),
        ("2024-01-03T14:23:23-0530", MOMENT),
        ("20240103T195323Z", MOMENT),
        ("2024-01-03T19:53:23.25", MOMENT + 0.25),
        ("2024-01-03T19:53:23,25", MOMENT + 0.25),
        ("2024-01-03", DAY),
        ("20240103", DAY),
        ("2024-W01-3", DAY),
        ("2024W013", DAY),
        ("2024-003", DAY),
        ("2024/01/03", DAY),
        ("2024", DAY - 2 * 86400),
        ("1704311603", MOMENT),
        ("1704311603.5", MOMENT + 0.5),
        ("1704311603000", MOMENT),
        ("1704311603000000", MOMENT),
        ("1704311603000000000", MOMENT),
        ("1.704311603e9", MOMENT),
        ("874965758", 874965758.0),
        ("12", 12.0),
    ],
)
def test_every_form(text, wanted):
    assert seconds(text, "") == pytest.approx([wanted, np.nan], nan_ok=True, abs=1e-3)


def test_columns_are_read_as_a_whole_and_say_how():
    texts = pd.Series(["2024-01-03", "2024-01-03T19:53:23Z", "soon", "03/01/2024"], dtype=object)
    read, what = parse_times(texts)
    assert read[:2].tolist() == [DAY, MOMENT] and np.isnan(read[2:]).all()
    assert "without a zone are taken as UTC" in what
    assert (
        parse_times(pd.Series(["1704311603000"] * 2, dtype=object))[1] == "milliseconds since 1970"
    )
    assert parse_times(texts[1:2])[1] == "dates"


@pytest.mark.parametrize("number", ["9223372036854775258244186112", "1e300", "-1e15"])
def test_a_number_beyond_the_calendar_is_no_moment(number):
    seconds, _ = parse_times(pd.Series(["1704311603", "1704311604", number], dtype=object))
    assert seconds[:2].tolist() == [1704311603, 1704311604] and np.isnan(seconds[2])


def test_other_dates_have_a_format():
    assert seconds("03.01.2024", "2024-01-03", time_format="%d.%m.%Y") == pytest.approx(
        [DAY, np.nan], nan_ok=True
    )


@pytest.mark.parametrize(
    ("cells", "form"),
    [
        (["31.12.2025 14:05", "1.2.2025 09:00"], "%d.%m.%Y %H:%M"),
        (["05.06.2025", "05.07.2025"], "%d.%m.%Y"),  # a dot follows the day
        (["31/12/2025", "01/02/2025"], "%d/%m/%Y"),
        (["12/31/2025 14:05:06", "01/02/2025 00:00:00"], "%m/%d/%Y %H:%M:%S"),
        (["01-13-2025"], "%m-%d-%Y"),
        (["01/02/2025", "03/04/2025"], None),  # either may be the month
        (["soon", "01.02.2025"], None),
        (["2025-12-31"], None),
    ],
)
def test_forms_that_end_with_the_year(cells, form):
    assert year_last_form(pd.Series(cells)) == form


def test_such_dates_are_read_and_the_form_is_told():
    seconds, what = parse_times(pd.Series(["31.12.2025 14:05", "", "1.1.2026 0:00", "soon"]))
    assert seconds[0] == 1767189900 and seconds[2] == 1767225600
    assert np.isnan(seconds[[1, 3]]).all()
    assert what == "dates of the form %d.%m.%Y %H:%M, taken as UTC"
