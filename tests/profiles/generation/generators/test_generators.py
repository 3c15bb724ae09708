from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from recbole_llmkt.profiles.generation.generators import Answer, Generator, Request, get_generator
from recbole_llmkt.profiles.generation.generators.base import is_refusal, judge
from recbole_llmkt.utils.exceptions import ConfigError
from tests.profiles.generation.helpers import SETTINGS, request

LIKED = {"title": "A", "year": "1990", "categories": ["Drama", "War"], "rating": "5"}
DISLIKED = {"title": "B", "year": "1970", "categories": ["Comedy"], "rating": "1"}
USER = {
    "items": [LIKED, LIKED, DISLIKED],
    "n_interactions": 7,
    "has_ratings": True,
    "rating_high": "5",
}


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, I cannot do that.",
        "I cannot provide a description of this person.",
        "As an AI language model, I have no opinion.",
        "Unfortunately, I do not know these films.",
        "Sorry, but there is too little here.",
        "I am unable to determine the taste.",
    ],
)
def test_refusals_are_recognised(text: str) -> None:
    assert is_refusal(text)
    assert "refusal" in str(judge(request(), Answer("u1", text)).error)


@pytest.mark.parametrize(
    "text",
    [
        "I Can't Sleep (1994) is a French drama.",
        "Sorry, Wrong Number is a thriller of 1948.",
        "This viewer apologises to nobody: I'm sorry to say horror leads.",
    ],
)
def test_titles_are_no_refusals(text: str) -> None:
    assert judge(request(), Answer("u1", text)).text == text


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer("u1", "  \n"), "empty"),
        (Answer("u1", "Likes dra", cut_off=True), "profile_max_tokens"),
        (Answer("u1", "<think>Let me see"), "empty"),
        (Answer("u1", "", error="no server"), "no server"),
    ],
)
def test_unusable_answers_have_a_reason_and_no_text(answer: Answer, reason: str) -> None:
    judged = judge(request(), answer)
    assert reason in str(judged.error) and judged.text == ""


def test_thoughts_are_left_out() -> None:
    assert judge(request(), Answer("u1", "<think>hm</think>\nLikes war.")).text == "Likes war."


@pytest.mark.parametrize(
    "text", ['{"profile": " Likes war. "}', '```json\n{"profile": "Likes war."}\n```']
)
def test_profile_is_taken_out_of_json(text: str) -> None:
    assert judge(request(answer_key="profile"), Answer("u1", text)).text == "Likes war."


@pytest.mark.parametrize("text", ["Likes war.", '{"summary": "x"}', '["x"]', '{"profile": 3}'])
def test_other_than_the_json_asked_for_is_unusable(text: str) -> None:
    assert "'profile'" in str(judge(request(answer_key="profile"), Answer("u1", text)).error)


class Stubborn(Generator):
    """Answers from a script: one list of texts per token."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self.asked: list[Request] = []

    def answer_batch(self, requests: list[Request]) -> list[Answer]:
        self.asked += requests
        script = {"a": ["Fine."], "b": ["", "Better."], "c": ["", "I cannot help."]}
        return [Answer(r.id, script[r.id][r.attempt], "h", 10, 2) for r in requests]


def test_unusable_answers_are_asked_for_once_more() -> None:
    generator = Stubborn({**SETTINGS, "profile_batch_size": 2})
    answers = {answer.id: answer for answer in generator.answers(map(request, "abc"))}
    assert [answers[token].text for token in "abc"] == ["Fine.", "Better.", ""]
    assert "refusal" in str(answers["c"].error) and answers["b"].error is None
    assert [answers[token].tokens_in for token in "abc"] == [10, 20, 20]
    assert [asked.id for asked in generator.asked] == ["a", "b", "b", "c", "c"]
    assert "it was empty" in generator.asked[2].messages[-1]["content"]
    assert "empty" not in generator.asked[1].messages[-1]["content"]


def test_generator_by_class_path() -> None:
    path = f"{Stubborn.__module__}.Stubborn"
    assert type(get_generator({**SETTINGS, "profile_generator": path})).__name__ == "Stubborn"
    with pytest.raises(ConfigError, match="not a subclass of Generator"):
        get_generator({**SETTINGS, "profile_generator": "collections.OrderedDict"})


def test_template_describes_users_without_titles(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "recbole_llmkt"):
        generator = get_generator(SETTINGS)
    assert "no language model is used" in caplog.text
    (answer,) = generator.answers([request(context=USER, history="d1")])
    assert answer.text == (
        "Likes Drama (50%), War (50%), going by 7 interactions, rated 3.7 of 5 on average. The "
        "favourites date from 1990 to 1990, half of them from 1990 or later. Rates "
        "lower Comedy (100%)."
    )
    assert answer.history == "d1" and answer.tokens_in == answer.tokens_out == 0


def test_template_describes_users_without_ratings() -> None:
    (answer,) = get_generator(SETTINGS).answers([request(context={**USER, "has_ratings": False})])
    assert "Chooses Drama (40%), War (40%), Comedy (20%), going by 7 interactions." in answer.text


def test_template_describes_items_even_refusing_ones() -> None:
    item = {
        "title": "I Cannot Help It",
        "year": "1970",
        "categories": ["Comedy"],
        "text": "Funny.",
        "other": {"year": "1970", "country": "France"},
    }
    (answer,) = get_generator(SETTINGS).answers([request(entity="item", context=item)])
    assert answer.text == "I Cannot Help It (1970). Categories: Comedy. country: France. Funny."
