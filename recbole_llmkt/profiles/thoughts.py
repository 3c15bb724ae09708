"""What reasoning models write beside their answer: thoughts, channels, wrappers, end marks."""

from __future__ import annotations

import re

# What thoughts are called, with what stands before or behind it in a name: <seed:think>,
# <internal_reasoning>, <antThinking>, <thinking-process>, <reasoning_content>.
_NAME = (
    r"(?i:(?:\w{1,20}[:_-]){0,2}(?:ant)?(?:think(?:ing|s)?|thoughts?|reason(?:ing)?|reflections?"
    r"|scratch_?pad|analysis|rationale|(?:inner_?)?monologue|deliberation|brainstorm(?:ing)?"
    r"|chain[-_]?of[-_]?thoughts?|cot|plan(?:ning)?)(?:[:_-]\w{1,20}){0,2})"
)
_LEFT, _RIGHT = "[<◁\uff1c\u27e8]", "[>▷\uff1e\u27e9]"
_BRACKETED = r"(?:THINK(?:ING)?|THOUGHTS?|REASONING)"  # "[thought]" is a word in brackets
_BAR = "[|\uff5c]"
_BEGIN, _END = r"(?i:start|begin|open)", r"(?i:end|stop|close|finish)"
_OPEN = re.compile(
    rf"{_LEFT}\s*{_NAME}(?:\s[^<>]*)?{_RIGHT}|\[{_BRACKETED}\]|\A\s*\[(?i:{_BRACKETED})\]"
    rf"|<{_BAR}(?:{_BEGIN}[_▁]?(?:of[_▁]?)?{_NAME}|inner_prefix|{_NAME}[_▁]{_BEGIN}|{_NAME})"
    rf"{_BAR}>|<{_BAR}{_NAME}>|<unused94>"
)
_CLOSE = re.compile(
    rf"{_LEFT}\s*\\?/\s*{_NAME}\s*{_RIGHT}|\[/(?i:{_BRACKETED})\]"
    rf"|<{_BAR}(?:{_END}[_▁]?(?:of[_▁]?)?{_NAME}|inner_suffix|{_NAME}[_▁]{_END}|/{_NAME})"
    rf"{_BAR}>|<{_NAME}{_BAR}>|<unused95>|<\|im_start\|>answer\b"
)
_ESCAPED = re.compile(rf"(?:&lt;|\\u003c)(\s*/?\s*{_NAME}\s*)(?:&gt;|\\u003e)")
_HEADING = r"(?:#{1,6}[ \t]*|\*\*)(?:%s)(?::?\*\*:?|:?[ \t]*(?=\n))"
_ANSWER_HEADING = _HEADING % "(?:Final )?(?:Response|Answer|Output|Profile)"
_THOUGHTS = "Thinking|Thoughts?|Reasoning|Rationale|Analysis|Chain of [Tt]hought"
# Thoughts between marks that others use for something else.
_BLOCKS = re.compile(
    r"<details\b(?=[^<>]*>)[^<>]*\breasoning\b[^<>]*>.*?(?:</details>|\Z)"
    r"|<details\b[^<>]*>\s*<summary>[^<>]{0,80}(?i:think|thought|reason)[^<>]{0,80}</summary>"
    r".*?(?:</details>|\Z)"
    r"|<\|channel>thought\b.*?(?:<channel\|>|\Z)"
    r"|<\|think\|>.*?(?:<\|content\|>|\Z)"
    r"|<\|im_start\|>think(?:ing)?\b.*?(?:<\|im_start\|>(?:answer|assistant)\b|\Z)"
    r"|<(tool_call|tool_response|function_call)>.*?(?:</\1>|\Z)"
    rf"|<\s*{_NAME}\s*/\s*>"
    rf"|\A\s*{_HEADING % 'Thinking|Thoughts|(?:Thinking|Thought) [Pp]rocess'}"
    rf".*?(?:\n\s*{_ANSWER_HEADING}|\Z)"
    rf"|\A\s*{_HEADING % _THOUGHTS}.*?\n\s*{_ANSWER_HEADING}"
    rf"|\A\s*(?:{_THOUGHTS}):.*?\n\s*(?=(?:Final )?(?:Response|Answer|Output|Profile):)"
    r"|\A\s*Here is my thought process:.*?(?:Here is my response:|\Z)"
    r"|\A\s*Thinking\.\.\.[ \t]*\n.*?(?:\.\.\.[ \t]?done thinking\.|\Z)"
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
_BARE_CHANNELS = re.compile(r"\A\s*(?:(?:analysis|commentary).*)?assistantfinal", re.DOTALL)
_BARE_THOUGHTS = re.compile(r"\A\s*(?:analysis|commentary)(?=[A-Z])")
_START = re.compile(r"<\|start\|>\s*\w*")

_ANSWER = re.compile(
    r"\A\s*<(answer|response|output|final|final_answer|conclusion|solution|profile)>(.*?)(?:</\1>\s*)?\Z",
    re.DOTALL | re.IGNORECASE,
)
_LABEL = re.compile(
    r"\A\s*(?:#{1,6} ?|\*\*)?(?:Final )?(?:[Aa]nswer|[Rr]esponse):?(?:\*\*)?(?<=[:*])"
)
_MARK = r"<[|\uff5c][\w▁]+[|\uff5c]>"
_INSTRUCTION = r"\[/?INST\]|\[(?:BOS|EOS)\]"
_START_MARKS = re.compile(
    rf"\A(?:\s*(?:{_MARK}(?:assistant\b)?|<start_of_turn>(?:model\b)?|<s>|<bos>|{_INSTRUCTION}"
    r"|<role>ASSISTANT</role>))+"
)
_END_MARKS = re.compile(rf"(?:\s*(?:{_MARK}|</s>|<eos>|<end_of_turn>|{_INSTRUCTION}))+\s*\Z")
# Some models then go on with the next turn.
_END_OF_TURN = re.compile(
    r"(?<=\S)\s*(?:<\|(?:im_end|eot_id|end|end_?of_?text|user|return)\|>|<end_of_turn>|</s>"
    r"|<\uff5cend▁of▁sentence\uff5c>).*",
    re.DOTALL,
)
_UNKNOWN_MARK = re.compile(rf"{_MARK}|<\|[\w/]{{1,40}}>|<[\w/]{{1,40}}\|>")

# What any of the above needs to match: one of these signs, or one of these words at the start.
_SIGN = re.compile(r"[<\[&#*`\\◁\uff1c\u27e8]")
_WORD = re.compile(
    r"\s*(?:Think|Thought|Reason|Rationale|Analysis|Chain|Here is my|analysis|commentary|assistant"
    r"|Final|[Aa]nswer|[Rr]esponse)"
)


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
    if not _SIGN.search(text) and not _WORD.match(text):
        return text.strip()  # twenty times as fast as what follows
    text = _ESCAPED.sub(r"<\1>", _BLOCKS.sub("", _answer_of_channels(text)))
    ends = list(_CLOSE.finditer(text))
    text = text[ends[-1].end() :] if ends else text
    unended = _OPEN.search(text)
    text = text[: unended.start()] if unended else text
    text = _END_OF_TURN.sub("", _START_MARKS.sub("", text))
    answer = _ANSWER.match(text)
    if answer:
        text = answer[2]
    return _LABEL.sub("", _END_MARKS.sub("", text)).strip()


def unknown_mark(text: str) -> str | None:
    """Return the name of a mark of a model's chat format that is left in a text, or None.

    What stands before and behind it may be thoughts.
    """
    mark = _UNKNOWN_MARK.search(text)
    return mark[0].strip("<>|/\uff5c") if mark else None


def _answer_of_channels(text: str) -> str:
    bare = _BARE_CHANNELS.match(text)
    if bare:
        return text[bare.end() :]
    if _BARE_THOUGHTS.match(text):
        return ""
    finals = list(_FINAL.finditer(text))
    text = text[finals[-1].end() :] if finals else text
    return _START.sub("", _CHANNEL.sub("", text))
