"""Prompts of others: what they may do, and what stops them."""

from __future__ import annotations

import pytest
from jinja2.exceptions import SecurityError, UndefinedError

from recbole_llmkt.profiles.generation.sandbox import bounded, compiled, fill, for_prompts


def filled(source, **variables):
    with bounded():
        return fill(
            compiled(source), {name: for_prompts(variable) for name, variable in variables.items()}
        )


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ tags }}", "Drama, War"),
        ("{{ tags ~ '!' }}", "Drama, War!"),
        ("{{ tags | upper }}", "DRAMA, WAR"),
        ("{{ {'year': 1993, 'tags': tags} }}", "year: 1993, tags: Drama, War"),
        ("{% for tag in tags %}{{ loop.index }}{{ tag }} {% endfor %}", "1Drama 2War "),
        ("{{ quote | tojson }}", '"it\'s <b>é"'),
        ("{{ '%04d' | format(7) }}", "0007"),
        ("{{ 2 ** 10 }}", "1024"),
    ],
)
def test_lists_and_values_are_shown_as_text(source, text):
    assert filled(source, tags=["Drama", "War"], quote="it's <b>é") == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ tags.__class__.__mro__ }}",
        "{{ ''.__class__ }}",
        "{{ '{0.__class__}'.format(tags) }}",
        "{{ tags.append(1) }}",
    ],
)
def test_no_code_is_reached(source):
    with pytest.raises((SecurityError, UndefinedError)):
        filled(source, tags=["Drama"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ 'x' * 10**9 }}", "too large"),
        ("{{ 9 ** 9 ** 9 ** 9 }}", "too large"),
        ("{{ 2 ** 65 }}", "too large"),
        ("{{ '%99999d' | format(7) }}", "too large"),
        ("{{ 'x' | center(10**9) }}", "too large"),
        ("{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}", "steps"),
        ("{% for i in range(999) %}{{ 'x' * 2000 }}{% endfor %}", "more than 1,000,000 parts"),
    ],
)
def test_neither_time_nor_memory_runs_out(source, message):
    with pytest.raises(SecurityError, match=message):
        filled(source)


def test_a_variable_that_is_not_there_is_an_error():
    with pytest.raises(UndefinedError, match="titel"):
        filled("{{ titel }}", title="x")
