"""What reasoning models write beside their answer: thoughts, channels, wrappers, end marks."""

from __future__ import annotations

import re

# Of a tag, with any prefix: <seed:think>, <internal_reasoning>, <antThinking>.
_NAME = (
    r"(?i:(?:\w{1,20}:)?(?:\w{1,20}_|ant)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection"
    r"|scratchpad|analysis|rationale|inner_?monologue|chain[-_]?of[-_]?thought|cot)(?:_process)?)"
)
_BRACKETED = r"(?:THINK(?:ING)?|THOUGHTS?|REASONING)"  # "[thought]" is a word in brackets
_OPEN = re.compile(
    rf"<\s*{_NAME}(?:\s[^<>]*)?>|\[{_BRACKETED}\]|◁think▷"
    r"|<[|\uff5c](?:START_THINKING|begin[_▁]of[_▁](?:thought|thinking)|inner_prefix|think(?:ing)?)"
    r"[|\uff5c]>|<unused94>|<\|im_start\|>think\b"
)
_CLOSE = re.compile(
    rf"<\s*/\s*{_NAME}\s*>|\[/{_BRACKETED}\]|◁/think▷"
    r"|<[|\uff5c](?:END_THINKING|end[_▁]of[_▁](?:thought|thinking)|inner_suffix|/think(?:ing)?)"
    r"[|\uff5c]>|<unused95>|<\|im_start\|>answer\b"
)
_ESCAPED = re.compile(rf"&lt;(\s*/?\s*{_NAME}\s*)&gt;")
_HEADING = r"(?:#{1,6}[ \t]*|\*\*)(?:%s)(?::?\*\*:?|:?[ \t]*(?=\n))"
# Thoughts between marks that others use for something else.
_BLOCKS = re.compile(
    r"<details\b[^<>]*\breasoning\b[^<>]*>.*?(?:</details>|\Z)"
    r"|<\|channel>thought\b.*?(?:<channel\|>|\Z)"
    r"|<\|think\|>.*?(?:<\|content\|>|\Z)"
    rf"|<\s*{_NAME}\s*/\s*>"
    rf"|\A\s*{_HEADING % 'Thinking|Thoughts|(?:Thinking|Thought) [Pp]rocess'}"
    rf".*?(?:\n\s*{_HEADING % '(?:Final )?(?:Response|Answer|Output|Profile)'}|\Z)"
    r"|\A\s*Here is my thought process:.*?(?:Here is my response:|\Z)"
    r"|\A\s*```(?:think(?:ing)?|thoughts?|reasoning)[ \t]*\n.*?(?:```|\Z)",
    re.DOTALL,
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
    r"\A\s*<(answer|response|output|final|final_answer|conclusion|solution|profile)>(.*?)(?:</\1>\s*)?\Z",
    re.DOTALL | re.IGNORECASE,
)
_MARK = r"<[|\uff5c][\w▁]+[|\uff5c]>"
_START_MARKS = re.compile(
    rf"\A(?:\s*(?:{_MARK}(?:assistant\b)?|<start_of_turn>(?:model\b)?|<s>|<bos>"
    r"|<role>ASSISTANT</role>))+"
)
_END_MARKS = re.compile(rf"(?:\s*(?:{_MARK}|</s>|<eos>|<end_of_turn>))+\s*\Z")


def without_thoughts(text: str) -> str:
    """Return a language model's answer without its thoughts; ``""`` if there is nothing else.

    Everything up to the last mark that ends thoughts is left out, whether or not the one that
    begins them is there (chat templates of reasoning models often put it into the prompt). The
    marks are those of DeepSeek, Qwen, Mistral, Kimi, Seed, Cohere, Granite, Gemma, gpt-oss and
    others.

    Examples
    --------
    >>> without_thoughts("They like war films.</think> Likes war.")
    'Likes war.'
    >>> without_thoughts("<|channel|>analysis<|message|>Hm<|end|><|channel|>final<|message|>Yes.")
    'Yes.'
    """
    text = _ESCAPED.sub(r"<\1>", _BLOCKS.sub("", _answer_of_channels(text)))
    ends = list(_CLOSE.finditer(text))
    text = text[ends[-1].end() :] if ends else text
    unended = _OPEN.search(text)
    text = text[: unended.start()] if unended else text
    text = _START_MARKS.sub("", text)
    answer = _ANSWER.match(text)
    if answer:
        text = answer[2]
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
