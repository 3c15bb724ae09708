from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

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
        {**ITEM, "number": 1, "rating": "5"},
        {**ITEM, "title": "Clue (1985)", "year": "1985", "number": 2, "rating": "2"},
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


def test_rlmrec_asks_for_json_and_shows_json() -> None:
    prompt = Prompt.load("rlmrec")
    assert prompt.answer_key == "profile"
    lines = [one for one in prompt.messages(USER)[-1]["content"].splitlines() if "{" in one]
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
        (GOOD + "item_line: '{{ title'\n", "is no Jinja2, line 1"),
        ("- a\n", "key: value"),
        (GOOD + "item_line: x\nanswer_key: 3\n", "must be a text"),
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
    with pytest.raises(ConfigError, match=r"cannot be filled in|unknown"):
        prompt.messages(USER)


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
