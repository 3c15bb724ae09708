"""Second attempts, batches and the words of a failure."""

from __future__ import annotations

import pytest

from recbole_llmkt.profiles.generation.generators.base import (
    Answer,
    Generator,
    combine,
    fix_of,
    judge,
)
from tests.profiles.generation.helpers import SETTINGS, request


class Scripted(Generator):
    """Answer from a list for each entity; '' is not usable."""

    def __init__(self, texts, batch_size=2):
        super().__init__({**SETTINGS, "profile_batch_size": batch_size})
        self.texts = texts
        self.batches = []

    def answer_batch(self, requests):
        self.batches.append([(asked.id, asked.attempt) for asked in requests])
        return [
            Answer(asked.id, self.texts[asked.id][asked.attempt], tokens_in=10, tokens_out=3)
            for asked in reversed(requests)
        ]


def test_only_what_was_not_usable_is_asked_for_again_batch_by_batch():
    generator = Scripted({"a": ["good"], "b": ["", "better"], "c": ["fine"]})
    answers = {given.id: given for given in generator.answers(request(token) for token in "abc")}
    assert generator.batches == [[("a", 0), ("b", 0)], [("b", 1)], [("c", 0)]]
    assert {token: answer.text for token, answer in answers.items()} == {
        "a": "good",
        "b": "better",
        "c": "fine",
    }
    assert (answers["b"].tokens_in, answers["b"].tokens_out) == (20, 6)


def test_what_fails_twice_is_a_failure_with_the_second_reason():
    (answer,) = Scripted({"a": ["", "I'm sorry, but no."]}).answers([request("a")])
    assert answer.text == ""
    assert answer.error.startswith("it was a refusal")


def test_a_second_request_adds_the_reason_and_leaves_the_first_alone():
    first = request("a")
    second = first.again("it was empty")
    assert second.attempt == 1
    assert "could not be used: it was empty" in second.messages[-1]["content"]
    assert second.messages[0] == first.messages[0]
    assert "could not be used" not in first.messages[-1]["content"]


def test_the_longest_text_counts_characters_of_the_profile_alone():
    asked = request("a", answer_key="profile")
    assert judge(asked, Answer("a", '{"profile": "12345"}'), longest=5).text == "12345"
    assert judge(asked, Answer("a", '{"profile": "123456"}'), longest=5).error
    fenced = judge(asked, Answer("a", '```json\n{"profile": "x"}\n```'))
    assert (fenced.text, fenced.error) == ("x", None)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("it was cut off by the length limit (profile_max_tokens)", "raise profile_max_tokens"),
        ("it was a refusal ('I am sorry')", "choose another profile_model"),
        ("the server is busy or out of order: 503", "wait, lower profile_concurrency"),
    ],
)
def test_a_common_failure_has_a_fix(reason, words):
    assert fix_of(reason).startswith(words)
    assert fix_of(f"odd, {reason}") is None


def test_tokens_of_both_attempts_are_added_and_of_a_prompt_estimated():
    both = combine(Answer("a", "", tokens_in=1, tokens_out=2), Answer("a", "x", tokens_in=3))
    assert (both.text, both.tokens_in, both.tokens_out) == ("x", 4, 2)
    messages = [{"role": "user", "content": "12345"}, {"role": "user", "content": ""}]
    assert Scripted({}).count_tokens(messages) == (2 + 4) + (0 + 4)
