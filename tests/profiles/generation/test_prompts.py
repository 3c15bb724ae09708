from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from recbole_llmkt.datasets.domains import DOMAINS
from recbole_llmkt.profiles.generation.prompts import Prompt, select_history
from recbole_llmkt.utils import resources
from recbole_llmkt.utils.exceptions import ConfigError, DataError

ITEM = {
    "title": "Schindler's List",
    "year": "1993",
    "categories": ["Drama", "War"],
    "text": "",
    "other": {"country": "USA", "release_year": "1993"},
}
USER = {
    "items": [
        {**ITEM, "number": 1, "rating": "5", "interaction": {}},
        {
            **ITEM,
            "title": "Clue (1985)",
            "year": "1985",
            "number": 2,
            "rating": "2",
            "interaction": {},
        },
    ],
    "n_interactions": 9,
    "has_ratings": True,
    "rating_low": "1",
    "rating_high": "5",
    "user": {},
}
GOOD = "system: Be brief.\nuser: '{% for line in history %}{{ line }};{% endfor %}'\n"


def _own(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", resources.names("prompts"))
@pytest.mark.parametrize("has_ratings", [True, False])
def test_every_packaged_prompt_shows_the_history(name: str, has_ratings: bool) -> None:
    context = {**USER, "has_ratings": has_ratings}
    system, user = Prompt.load(name).messages(context)
    assert system["role"] == "system" and user["role"] == "user"
    assert "Schindler's List" in user["content"] and "Clue (1985)" in user["content"]
    assert "(1985) (1985)" not in user["content"]
    assert user["content"].count("Drama, War") == 2
    asked = system["content"] + user["content"]
    assert re.search(
        r"(name|naming|write|without) (no |any |the )?title", " ".join(asked.split()), re.I
    )
    assert ("5" in user["content"].split("Schindler")[1].splitlines()[0]) is has_ratings


@pytest.mark.parametrize("name", resources.names("prompts"))
def test_every_packaged_prompt_describes_items(name: str) -> None:
    content = Prompt.load(name, "item").messages(ITEM)[-1]["content"]
    assert "Schindler's List" in content and "Drama, War" in content


def test_the_paper_asks_five_questions() -> None:
    text = Prompt.load("llmkt").messages(USER)[-1]["content"].lower()
    for word in ("years", "genres", "plot", "directors", "critics", "low ratings"):
        assert word in text
    assert "2 of the 9 things" in text and "scale from 1 to 5" in text


def test_the_papers_prompt_is_what_existing_profiles_were_written_with() -> None:
    for domain in (None, "movies"):
        assert Prompt.load("llmkt", "user", domain).digest == "1ed36e0899a71620"
        assert Prompt.load("llmkt", "item", domain).digest == "5475fe41a7e75b35"


@pytest.mark.parametrize(
    ("name", "domain", "file"),
    [
        ("llmkt", "shop", "llmkt-shop"),
        ("llmkt", "generic", "llmkt-generic"),
        ("kar", "books", "kar-generic"),
        ("kar", "movies", "kar"),
        ("short", "shop", "short"),
        ("llmkt-music", "shop", "llmkt-music"),
    ],
)
def test_each_domain_has_the_prompt_that_fits_best(name: str, domain: str, file: str) -> None:
    assert Path(Prompt.load(name, "user", domain).source).stem == file


@pytest.mark.parametrize("domain", [domain for domain in DOMAINS if domain != "movies"])
@pytest.mark.parametrize("entity", ["user", "item"])
def test_only_films_are_asked_about_directors(domain: str, entity: str) -> None:
    context = ITEM if entity == "item" else USER
    for name in ("llmkt", "kar"):
        messages = Prompt.load(name, entity, domain).messages(context)
        asked = " ".join(message["content"] for message in messages).lower()
        assert not re.search(r"\b(directors?|films?|movies?|plots?|cast)\b", asked)


def test_prompts_show_the_numbers_of_an_interaction() -> None:
    bought = {**USER["items"][0], "interaction": {"qty": "2", "price": "9.99"}}
    for name in ("llmkt-shop", "llmkt-generic", "kar-generic"):
        content = Prompt.load(name).messages({**USER, "items": [bought]})[-1]["content"]
        assert "qty: 2, price: 9.99" in content


def test_rlmrec_asks_for_json_and_shows_json() -> None:
    prompt = Prompt.load("rlmrec")
    assert prompt.answer_key == "profile"
    lines = [line for line in prompt.messages(USER)[-1]["content"].splitlines() if "{" in line]
    assert json.loads(lines[0]) == {
        "title": "Schindler's List",
        "categories": "Drama, War",
        "rating": 5,
    }


def test_own_prompt_by_path_and_its_digest(tmp_path: Path) -> None:
    line = "item_line: '{{ number }} {{ title }} {{ user_note | default(\"-\") }}'\n"
    path = _own(tmp_path, GOOD + line)
    prompt = Prompt.load(path)
    assert prompt.messages(USER)[1]["content"] == "1 Schindler's List -;2 Clue (1985) -;"
    assert prompt.digest == Prompt.load(path).digest
    changed = Prompt.load(_own(tmp_path, GOOD.replace("brief", "long") + line))
    assert changed.digest != prompt.digest and len(prompt.digest) == 16


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("system: a\nuser: b\n", "needs the key 'item_line'"),
        (GOOD + "item_lien: x\n", "Did you mean 'item_line'"),
        (GOOD + "item_line: '{{ title'\n", "is not valid Jinja2, line 1"),
        ("- a\n", "key: value"),
        (GOOD + "item_line: x\nanswer_key: 3\n", "must be a string"),
    ],
)
def test_a_broken_prompt_says_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Prompt.load(_own(tmp_path, text))


def test_unknown_variable_lists_those_that_are_there(tmp_path: Path) -> None:
    prompt = Prompt.load(_own(tmp_path, GOOD + "item_line: '{{ titel }}'\n"))
    with pytest.raises(ConfigError, match=r"item_line.*'titel' is undefined.*categories.*title"):
        prompt.messages(USER)


def test_unknown_prompt_suggests() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'llmkt'"):
        Prompt.load("llmtk")


def test_items_need_a_section_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"section 'item'.*needs the key 'system'"):
        Prompt.load(_own(tmp_path, GOOD + "item_line: x\n"), "item")


def test_prompts_cannot_run_code(tmp_path: Path) -> None:
    evil = "item_line: '{{ title.__class__.__mro__[1].__subclasses__() }}'\n"
    prompt = Prompt.load(_own(tmp_path, GOOD + evil))
    with pytest.raises(ConfigError, match=r"cannot be rendered|unknown"):
        prompt.messages(USER)


HOSTILE = [
    "{{ [].pop() }}",
    "{{ categories.append('x') }}",
    "{{ other.clear() }}",
    "{{ 'x' * 10**10 }}",
    "{{ 10**10 * 'x' }}",
    "{{ 'x' * 9999999 * 9999999 }}",
    "{{ [0] * 10**10 }}",
    "{{ 9**9**9**9 }}",
    "{{ (2**64)**64 * 'x' }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{a:{b}}'.format_map({'a': 1, 'b': 1000000000}) }}",
    "{{ 'x'.ljust(10000000000) }}",
    "{{ 'x'.zfill(1000000000) }}",
    "{{ '\\t'.expandtabs(1000000000) }}",
    "{{ 'x'|center(1000000000) }}",
    "{{ 'x'|indent(1000000000, true) }}",
    "{{ [1]|batch(1000000000, 'x')|list }}",
    "{{ range(10**9)|list }}",
    "{{ ('x' * 999999).replace('', 'y' * 999999) }}",
    "{{ ('x' * 999999)|replace('', 'y' * 999999) }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(9999) recursive %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% set x = 'x' * 99999 %}{% for a in range(9999) %}{{ x }}{% endfor %}",
    "{% set x = 'xx' %}" + "{% set x = x ~ x %}" * 60 + "{{ x }}",
    "{% set x = 'xx' %}" + "{% set x = x + x %}" * 60 + "{{ x }}",
    "{% set x = 'xx' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60 + "{{ x }}",
    "{% set x = [1, 2] %}" + "{% set x = [x, x] %}" * 60 + "{{ x }}",
    "{% set x = [1, 2] %}" + "{% set x = {'a': x, 'b': x} %}" * 60 + "{{ x }}",
    "{% set x = [1, 2] %}" + "{% set x = (x, x) %}" * 60 + "{{ x|string }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ title.__class__ }}",
    "{{ title.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ title|attr('__class__') }}",
    "{{ self.__init__.__globals__ }}",
    "{{ range.__self__ }}",
    "{{ title.nothing }}",
    "{{ 1 / 0 }}",
    "{{ title + 1 }}",
    "{{ categories[9] }}",
    "{{ title() }}",
    "{{ 'a'|int('x') + [] }}",
    "{{ 'ä'.encode('ascii') }}",
    "{% include 'x' %}",
    "{% extends 'x' %}",
    "{% import 'x' as y %}",
    "{{ lipsum() }}",
    "{{ cycler('a') }}",
    "{{ [1, 'a']|sort }}",
    "{{ [1]|sum(start='a') }}",
    "{{ categories|map('nothing')|list }}",
]


@pytest.mark.parametrize("template", HOSTILE)
def test_a_hostile_template_is_one_line_of_error_at_once(tmp_path: Path, template: str) -> None:
    text = GOOD + f"item_line: {json.dumps(template)}\n"
    prompt = Prompt.load(_own(tmp_path, text))
    start = time.process_time()
    with pytest.raises(ConfigError, match=r"item_line.*(cannot be rendered|unknown)") as caught:
        prompt.messages(USER)
    assert time.process_time() - start < 8
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "template",
    [
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{% for a in b %}" * 300 + "{% endfor %}" * 300,
    ],
)
def test_a_template_too_deep_to_compile_is_an_error(tmp_path: Path, template: str) -> None:
    text = GOOD + f"item_line: {json.dumps(template)}\n"
    with pytest.raises(ConfigError, match=r"item_line.*not valid Jinja2"):
        Prompt.load(_own(tmp_path, text))


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{{ categories }}", "Drama, War"),
        ("{{ title }} ({{ categories }})", "Schindler's List (Drama, War)"),
        ("{{ categories[:1] }}|{{ categories[::-1] }}", "Drama|War, Drama"),
        ("{{ categories | upper }}", "DRAMA, WAR"),
        ("{{ 'of ' ~ categories }}", "of Drama, War"),
        ("{{ categories | map('lower') }}", "drama, war"),
        ("{{ categories | sort(reverse=true) }}", "War, Drama"),
        ("{{ '%s!' % categories }}", "Drama, War!"),
        ("{{ '%s!' | format(categories) }}", "Drama, War!"),
        ("{{ other }}", "country: USA, release_year: 1993"),
        ("{{ [categories, categories] }}", "Drama, War, Drama, War"),
        (
            "{% for one in categories %}{{ loop.index }}/{{ loop.length }} {{ one }};{% endfor %}",
            "1/2 Drama;2/2 War;",
        ),
        ("{{ categories | tojson }}", '["Drama", "War"]'),
        (
            "{{ categories | length + 1 }} {{ 2 ** 10 }} {{ 7 // 2 }} {{ year | int - 3 }}",
            "3 1024 3 1990",
        ),
        ("{{ 'ab' * 3 }} {{ title | truncate(9) | center(3) }}", "ababab Schind..."),
    ],
)
def test_lists_and_mappings_print_as_text(tmp_path: Path, template: str, shown: str) -> None:
    item = f"item:\n  system: ''\n  user: {json.dumps(template)}\n"
    prompt = Prompt.load(_own(tmp_path, GOOD + "item_line: x\n" + item), "item")
    assert prompt.messages(ITEM)[0]["content"] == shown


def test_the_history_prints_as_text(tmp_path: Path) -> None:
    text = "system: ''\nuser: '{{ history }}. {{ history | first }}. {{ items | length }}'\n"
    prompt = Prompt.load(_own(tmp_path, text + "item_line: '{{ title }}: {{ categories }}'\n"))
    lines = "Schindler's List: Drama, War, Clue (1985): Drama, War"
    assert prompt.messages(USER)[0]["content"] == f"{lines}. Schindler's List: Drama, War. 2"


def test_history_is_chosen_as_asked_and_shown_in_order() -> None:
    ratings = np.array([5.0, 1, 4, 5, 2, 3])
    assert select_history(6, ratings, 3, "recent").tolist() == [3, 4, 5]
    assert select_history(6, ratings, 3, "top_rated").tolist() == [0, 2, 3]
    assert select_history(6, ratings, 1, "top_rated").tolist() == [3], "the later of two equals"
    assert select_history(6, ratings, 3, "mixed").tolist() == [3, 4, 5]
    assert select_history(6, ratings, 4, "mixed").tolist() == [0, 3, 4, 5]
    assert select_history(6, ratings, 1, "mixed").tolist() == [5]
    assert select_history(2, ratings[:2], 3, "top_rated").tolist() == [0, 1]
    assert select_history(6, None, 2, "recent").tolist() == [4, 5]


@pytest.mark.parametrize("how", ["top_rated", "mixed"])
def test_choosing_by_rating_needs_ratings(how: str) -> None:
    with pytest.raises(DataError, match="profile_rating_field"):
        select_history(2, None, 3, how)
