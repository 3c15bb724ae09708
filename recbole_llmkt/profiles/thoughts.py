"""What reasoning models write beside their answer: thoughts, channels, wrappers, end marks."""

from __future__ import annotations

import re

_NAME = (
    r"(?i:(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad|analysis"
    r"|rationale|inner_?monologue|chain_?of_?thought))"
)
_BRACKETED = r"(?:THINK(?:ING)?|THOUGHTS?|REASONING)"  # "[thought]" is a word in brackets
_OPEN = re.compile(
    rf"<{_NAME}(?:\s[^<>]*)?>|\[{_BRACKETED}\]|◁think▷|<\|(?:START_THINKING|begin_of_thought)\|>"
)
_CLOSE = re.compile(
    rf"</{_NAME}\s*>|\[/{_BRACKETED}\]|◁/think▷|<\|(?:END_THINKING|end_of_thought)\|>"
)

# The format of gpt-oss: <|channel|>NAME<|message|>TEXT<|end|>; the answer's name is "final".
_FINAL = re.compile(r"<\|channel\|>\s*final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
_CHANNEL = re.compile(
    r"<\|channel\|>.*?(?:<\|message\|>.*?)?(?:<\|(?:end|call|return)\|>|(?=<\|start\|>)|\Z)",
    re.DOTALL,
)
# The same where the server leaves the marks out.
_BARE_CHANNELS = re.compile(r"\A\s*(?:analysis|commentary).*assistantfinal", re.DOTALL)
_BARE_THOUGHTS = re.compile(r"\A\s*analysis(?=[A-Z])")
_START = re.compile(r"<\|start\|>\s*\w*")

_ANSWER = re.compile(
    r"\A\s*(?:<(answer|response|output|final|final_answer)>(?P<tagged>.*?)(?:</\1>\s*)?\Z"
    r"|<\|(?:START_RESPONSE|begin_of_solution)\|>(?P<marked>.*?)"
    r"(?:<\|(?:END_RESPONSE|end_of_solution)\|>\s*)?\Z)",
    re.DOTALL | re.IGNORECASE,
)
_END_MARKS = re.compile(r"(?:\s*(?:<\|[A-Za-z_]+\|>|</s>|<end_of_turn>))+\s*\Z")


def without_thoughts(text: str) -> str:
    """Return a language model's answer without its thoughts; ``""`` if there is nothing else.

    Everything up to the last mark that ends thoughts is left out, whether or not the one that
    begins them is there (chat templates of reasoning models often put it into the prompt). The
    marks are those of DeepSeek, Qwen, Mistral, Kimi, Seed, Cohere, gpt-oss and their like.

    Examples
    --------
    >>> without_thoughts("They like war films.</think> Likes war.")
    'Likes war.'
    >>> without_thoughts("<|channel|>analysis<|message|>Hm<|end|><|channel|>final<|message|>Yes.")
    'Yes.'
    """
    text = _answer_of_channels(text)
    ends = list(_CLOSE.finditer(text))
    text = text[ends[-1].end() :] if ends else text
    unended = _OPEN.search(text)
    text = text[: unended.start()] if unended else text
    answer = _ANSWER.match(text)
    if answer:
        text = answer["tagged"] or answer["marked"] or ""
    return _END_MARKS.sub("", text).strip()


def _answer_of_channels(text: str) -> str:
    bare = _BARE_CHANNELS.match(text)
    if bare:
        return text[bare.end() :]
    if _BARE_THOUGHTS.match(text):
        return ""
    finals = list(_FINAL.finditer(text))
    text = text[finals[-1].end() :] if finals else text
    return _START.sub("", _CHANNEL.sub("", text))
