from __future__ import annotations

import random
import re
import time

import pytest

from recbole_llmkt.profiles import thoughts
from recbole_llmkt.profiles.generation.generators import Answer
from recbole_llmkt.profiles.generation.generators.base import judge
from recbole_llmkt.profiles.store import too_long
from recbole_llmkt.profiles.thoughts import without_thoughts
from tests.profiles.generation.helpers import request

GOOD = "Likes war films.\n\nDislikes musicals."
HARMONY = "<|channel|>analysis<|message|>We need to write.<|end|><|start|>assistant"


@pytest.mark.parametrize(
    "text",
    [
        f"<think>hm</think>{GOOD}",
        f"They like war.\n</think>\n\n{GOOD}",
        f"<think>one</think>two</think>{GOOD}",
        f"<thinking>hm</thinking>\n{GOOD}",
        f"hm</thinking>\n{GOOD}",
        f"<thought>hm</thought>{GOOD}",
        f"<reasoning>hm\n\nhm</reasoning>{GOOD}",
        f'<Reasoning effort="high">hm</Reasoning >{GOOD}',
        f"<reflection>hm</reflection>{GOOD}",
        f"<scratchpad>hm</scratchpad>{GOOD}",
        f"<seed:think>hm</seed:think>{GOOD}",
        f"[THINK]hm[/THINK]{GOOD}",
        f"hm[/THINK]{GOOD}",
        f"◁think▷hm◁/think▷{GOOD}",
        f"<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>{GOOD}<|END_RESPONSE|>",
        f"<|begin_of_thought|>hm<|end_of_thought|><|begin_of_solution|>{GOOD}<|end_of_solution|>",
        f"<think>hm</think><answer>{GOOD}</answer>",
        f"<think>hm</think>\n<response>\n{GOOD}\n</response>\n",
        f"{HARMONY}<|channel|>final<|message|>{GOOD}",
        f"{HARMONY}<|channel|>final<|message|>{GOOD}<|return|>",
        f"{HARMONY}<|channel|>final <|constrain|>text<|message|>{GOOD}<|return|>",
        f"<|channel|>analysis<|message|>hm<|end|>{GOOD}",
        f"<|channel|>commentary<|message|>hm<|end|>{HARMONY}<|channel|>final<|message|>{GOOD}",
        f"We need to write.<|end|><|start|>assistant<|channel|>final<|message|>{GOOD}",
        f"<|start|>assistant<|channel|>final<|message|>{GOOD}",
        f"analysisWe need to write.assistantfinal{GOOD}",
        f"analysis\nWe need to write.\nassistantfinal{GOOD}",
        f"<mm:think>hm</mm:think>{GOOD}",
        f"<internal_reasoning>hm</internal_reasoning>{GOOD}",
        f"< think >hm</ think >{GOOD}",
        f"&lt;think&gt;hm&lt;/think&gt;{GOOD}",
        f"<\uff5cbegin▁of▁thinking\uff5c>hm<\uff5cend▁of▁thinking\uff5c>{GOOD}<\uff5cend▁of▁sentence\uff5c>",
        f"<|inner_prefix|>hm<|inner_suffix|>{GOOD}",
        f"<|think|>hm<|end|><|begin|>assistant<|content|>{GOOD}",
        f"<|channel>thought\nhm<channel|>{GOOD}",
        f'<details type="reasoning" done="true"><summary>Thought</summary>hm</details>{GOOD}',
        f"Here is my thought process:\nhm\nHere is my response:\n{GOOD}",
        f"```thinking\nhm\n```\n{GOOD}",
        f"<antThinking>hm</antThinking>{GOOD}",
        f"<thought_process>hm</thought_process>{GOOD}",
        f"<cot>hm</cot>{GOOD}",
        f"<unused94>thought\nhm<unused95>{GOOD}",
        f"<|im_start|>think\nhm\n<|im_start|>answer\n{GOOD}",
        f"think\nhm\n<|im_start|>answer\n{GOOD}",
        f"<|thinking|>hm<|/thinking|>{GOOD}",
        f"## Thinking\n\nhm\n\n## Final Response\n\n{GOOD}",
        f"**Thinking:** hm\n\n**Answer:** {GOOD}",
        f"**Thought process**\nhm\n**Final Answer**:\n{GOOD}",
        f"<REASONING>hm</REASONING><CONCLUSION>{GOOD}</CONCLUSION>",
        f"<think/>{GOOD}",
        f"<think>hm</think><|begin_of_box|>{GOOD}<|end_of_box|>",
        f"<start_of_turn>model\n{GOOD}<end_of_turn>",
        f"<|start_header_id|>assistant<|end_header_id|>\n\n{GOOD}<|eot_id|>",
        f"<|im_start|>assistant\n{GOOD}<|im_end|>",
        f"{GOOD}<|im_end|>",
        f"{GOOD}</s>",
        f"[think]hm[/think]{GOOD}",
        f"<think>hm<\\/think>{GOOD}",
        f"\\u003cthink\\u003ehm\\u003c/think\\u003e{GOOD}",
        f"\uff1cthink\uff1ehm\uff1c/think\uff1e{GOOD}",
        f"◁THINK▷hm◁/THINK▷{GOOD}",
        f"<|thought|>hm<|/thought|>{GOOD}",
        f"<|startofthink|>hm<|endofthink|>{GOOD}",
        f"<|reasoning_start|>hm<|reasoning_end|>{GOOD}",
        f"<|THINK_BEGIN|>hm<|THINK_END|>{GOOD}",
        f"<|thinking>hm<thinking|>{GOOD}",
        f"<reasoning_content>hm</reasoning_content>{GOOD}",
        f"<thinking-process>hm</thinking-process>{GOOD}",
        f"<internal_monologue>hm</internal_monologue>{GOOD}",
        f"<plan>hm</plan>{GOOD}",
        f"<details><summary>Thought for 3 s</summary>hm</details>{GOOD}",
        f"<|im_start|>thinking\nhm<|im_end|>\n<|im_start|>assistant\n{GOOD}",
        f"Thinking...\nhm\n...done thinking.\n\n{GOOD}",
        f"### Reasoning\nhm\n### Profile\n{GOOD}",
        f"Reasoning: hm\n\nAnswer: {GOOD}",
        f"<think>hm</think>Final answer: {GOOD}",
        f"<tool_call>{{}}</tool_call>{GOOD}",
        f"assistantfinal{GOOD}",
        f"{GOOD}<|im_end|>\n<|im_start|>user\nMore?",
        f"[INST] [/INST] {GOOD}[EOS]",
        f"```\n{GOOD}\n```",
        f"```markdown\n{GOOD}\n```",
        GOOD,
    ],
)
def test_the_profile_is_what_follows_the_thoughts(text: str) -> None:
    assert judge(request(), Answer("u1", text)).text == GOOD


@pytest.mark.parametrize(
    "text",
    [
        "<think>hm",
        "<think>hm</think>",
        "hm</think>\n",
        "<thinking>hm</thinking> \n",
        "[THINK]hm",
        "<reasoning>hm",
        "<|channel|>analysis<|message|>hm",
        "<|channel|>analysis<|message|>hm<|end|>",
        "<|channel|>analysis",
        "<|channel|>final<|message|>",
        "analysisWe need to write",
        "<|START_THINKING|>hm<|END_THINKING|>",
        "<answer></answer>",
        "Here is my thought process: hm",
        "<|think|>hm",
        "<unused94>thought hm",
        "## Thinking\n\nhm",
        "<|thinking|>hm",
        "<|im_start|>assistant",
        "<|im_end|>",
        "[think]hm",
        "<|think_start|>hm",
        "Thinking...\nhm",
        "\u200b\ufeff",
        "...",
        "N/A",
        '"null"',
    ],
)
def test_thoughts_alone_are_an_empty_answer(text: str) -> None:
    judged = judge(request(), Answer("u1", text))
    assert judged.text == "" and judged.error == "it was empty"


@pytest.mark.parametrize(
    "text",
    [
        "Analysis of this viewer: likes war.",
        "analysis shows a taste for war",
        "Thinks highly of <b>Heat</b> and [Thought] essays.",
        "I think they like war.",
        "Likes [thought] pieces and [Think] tanks.",
        "## Analysis\nLikes war; planned heists.",
        "Reasoning: sound. Likes <i>Heat</i>.",
        "**Thinking person's war films** and ## Thinking.",
        "# Thinking about war: likes it.",
        "Answers come late: <3 comedies.",
        "Assistant directors, &lt;b&gt; and <details> of plots.",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert without_thoughts(text) == text


@pytest.mark.parametrize(
    "mark", ["<|thoughtfin|>", "<\uff5csecret▁thoughts\uff5c>", "<|x>", "<x|>"]
)
def test_marks_of_unknown_formats_fail_instead_of_storing_thoughts(mark: str) -> None:
    judged = judge(request(), Answer("u1", f"hm{mark}{GOOD}"))
    assert judged.text == "" and "chat format that is not known" in str(judged.error)


def test_no_answer_takes_long_to_read() -> None:
    start = time.monotonic()
    without_thoughts("<details " + "reasoning " * 10_000)
    assert time.monotonic() - start < 1


def test_json_behind_thoughts() -> None:
    answer = Answer("u1", 'hm</think>\n```json\n{"profile": "Likes war.\\u001b[31m"}\n```')
    assert judge(request(answer_key="profile"), answer).text == "Likes war."
    deep = Answer("u1", '{"profile": ' + "[" * 100_000)
    assert "not a JSON object" in str(judge(request(answer_key="profile"), deep).error)


def test_control_characters_do_not_reach_a_profile() -> None:
    text = "Likes\x00 \x1b[31mwar\x1b[0m\tand\r\npeace \ud83d."
    assert judge(request(), Answer("u1", text)).text == "Likes war\tand\npeace ?."


def test_a_profile_is_no_longer_than_its_tokens_allow() -> None:
    judged = judge(request(), Answer("u1", "x" * 501), longest=500)
    assert judged.text == "" and "501 characters" in str(judged.error)
    assert "profile_max_tokens" in str(judged.error)
    assert judge(request(), Answer("u1", "x" * 500), longest=500).error is None
    assert too_long("x" * 500, 500) is None


def test_plain_answers_take_the_short_way_to_the_same_text(monkeypatch):
    rng = random.Random(0)
    parts = [
        "Thinking",
        "...",
        "done thinking.",
        ":",
        "\n",
        " ",
        "Final",
        "Answer",
        "assistantfinal",
    ]
    parts += ["analysis", "commentary", "Here is my thought process:", "Reasoning", "Likes"]
    parts += [
        "war.",
        "|",
        ">",
        "}",
        "Response",
        "Profile",
        "INST",
        "Chain of thought",
        "A",
        "\t",
        "END",
    ]
    texts = ["".join(rng.choices(parts, k=rng.randint(1, 8))) for _ in range(3000)]
    short = [without_thoughts(text) for text in texts]
    monkeypatch.setattr(thoughts, "_SIGN", re.compile(""))  # nothing is plain
    assert short == [without_thoughts(text) for text in texts]
    assert short.count("") > 100
