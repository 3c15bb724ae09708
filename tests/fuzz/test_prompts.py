"""Prompts of others: a template is filled in, or refused; it runs no code, and soon ends."""

from __future__ import annotations

import re
import time

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from recbole_llmkt.profiles.generation.prompts import Prompt
from recbole_llmkt.utils.exceptions import LLMKTError
from tests.fuzz.cases import TEXT, changed, damaged, survives

CONTENT = {
    "system": "Be brief.",
    "user": "About {{ id }}: {% for line in history %}{{ line }}; {% endfor %}",
    "item_line": "{{ title }}{% if has_ratings %} ({{ rating }}){% endif %}",
    "answer_key": "profile",
    "item": {"system": "", "user": "{{ title }}"},
}
ITEM = {"title": "Heat", "rating": 4.0, "categories": ["Drama"], "year": "1995"}
USER = {"id": "u1", "items": [ITEM, ITEM], "has_ratings": True}
# Pieces that a template can be made of, well-formed and not.
PIECES = st.sampled_from(
    re.split(
        r"\s{2,}",
        """
        {{ items }}  {{ history[0] }}  {{ id.__class__ }}  {{ [].pop() }}  {{ 'x' * 10**10 }}
        {{ 1 / 0 }}  {{ title|upper }}  {{ items|sort }}  {{ items|map(attribute='title')|join }}
        {{ id|int(5) }}  {{ x }}  {% for a in range(10**9) %}  {% endfor %}  {% if id %}
        {% endif %}  {% set y = [] %}  {{ y.append(1) }}  {% macro m() %}  {% endmacro %}  {{ m() }}
        {{ self }}  {{ caller() }}  {% include 'x' %}  {% raw %}  {{ '%1000000000d' % 1 }}
        {{ '{:>1000000000}'.format(1) }}  {{ 2 ** 10**9 }}  {{ cycler() }}  {{ lipsum }}
        {{ namespace(a=1).a }}  {{ dict(a=1) }}  {{ 'a'.center(10**9) }}  {{ items.__len__ }}
        {{ id[5:] }}  {#  {{ id|replace('', 'xx') }}  {{ id|batch(3) }}  {{ items|tojson }}
        {{ 1|round(10**9) }}  {{ id|indent(9) }}  {{ items|groupby('year') }}  {{ id|format(1) }}
        {{ none + 1 }}  {{ [1]|random }}  {{ -id }}  {{ ()|first }}  {% block b %}  {% endblock %}
        {% extends 'x' %}  {% call m() %}  {{ loop.index }}  {{ range(3)|list }}  }}  {{
        """.strip(),
    )
)


def fill(path, entity):
    prompt = Prompt.load(str(path), entity)
    assert len(prompt.digest) == 16
    context = USER if entity == "user" else {**ITEM, "id": "i1"}
    for message in prompt.messages(context):
        message["content"].encode(errors="surrogatepass")


@given(
    st.sampled_from(["user", "item"]),
    damaged(yaml.safe_dump(CONTENT).encode())
    | changed(CONTENT).map(lambda values: yaml.safe_dump(values).encode()),
)
def test_a_file(tmp_path, entity, content):
    path = tmp_path / "prompt.yaml"
    path.write_bytes(content)
    survives(fill, path, entity)


@given(
    st.sampled_from(["user", "item_line", "system"]),
    st.lists(PIECES | TEXT, min_size=1, max_size=4),
)
@example("user", ["{{ [].pop() }}"])
@example("user", ["{{ 'x' * 10**10 }}"])
@example("user", ["{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"])
@example("user", ["{{ " + "(" * 500 + "1" + ")" * 500 + " }}"])
def test_a_template(tmp_path, key, pieces):
    path = tmp_path / "prompt.yaml"
    path.write_text(yaml.safe_dump({**CONTENT, key: " ".join(pieces)}))
    start = time.monotonic()
    survives(fill, path, "user")
    assert time.monotonic() - start < 60


def test_the_prompt_that_the_cases_start_from_works(tmp_path):
    path = tmp_path / "prompt.yaml"
    path.write_text(yaml.safe_dump(CONTENT))
    for entity in ("user", "item"):
        assert not isinstance(survives(fill, path, entity), LLMKTError)
