from __future__ import annotations

import pytest

from recbole_llmkt.recommend.conditions import Condition, items_meeting
from recbole_llmkt.utils.exceptions import ConfigError, DataError


@pytest.mark.parametrize(
    ("text", "values", "holds"),
    [
        ("category=Books", ["Music", "Books"], True),
        ("category=Books", ["Bookshop"], False),
        ("category!=Books", ["Music", "Books"], False),
        ("category!=Books", [], True),
        ("category=", [], False),
        ("price<20", ["19.9"], True),
        ("price<20", ["20"], False),
        ("price<=20", ["20.0"], True),
        ("price >= 1e1", ["10"], True),
        ("price>20", [], False),
        ("price>20", ["much"], False),
        ("year=1999", ["1999.0"], True),
        ("title=a=b", ["a=b"], True),
    ],
)
def test_conditions(text, values, holds):
    assert Condition.parse(text).holds(values) == holds


@pytest.mark.parametrize("text", ["category", "=Books", "", "price<cheap"])
def test_what_is_no_condition(text):
    with pytest.raises(ConfigError, match=r"Cannot read the condition|which is not a number"):
        Condition.parse(text)


def test_items_by_columns_that_the_run_does_not_load(make_dataset):
    dataset = make_dataset()
    path = dataset.folder / "tiny.item"
    config = dataset.config()
    with pytest.raises(DataError, match=r"tiny\.item', which does not exist"):
        items_meeting(config, [Condition.parse("a=b")])
    path.write_text(
        "item_id:token\tshelf:token_seq\tyear:float\ni1\tOld Books\t1990\ni2\tBooks\t2001\ni3\t\t\n"
    )
    for texts, tokens in (
        (["shelf=Books"], {"i1", "i2"}),
        (["shelf=Old Books"], {"i1"}),
        (["shelf=Books", "year>2000"], {"i2"}),
        (["year!=1990"], {"i2", "i3"}),
    ):
        assert items_meeting(config, map(Condition.parse, texts)) == tokens
    with pytest.raises(DataError, match=r"No item of .* meets shelf=Shoes"):
        items_meeting(config, [Condition.parse("shelf=Shoes")])
    with pytest.raises(DataError, match="has no column 'shelve'"):
        items_meeting(config, [Condition.parse("shelve=Books")])
