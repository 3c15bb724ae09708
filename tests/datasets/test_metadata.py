"""Metadata: titles, categories and texts from the raw atomic files."""

from __future__ import annotations

import logging

import pytest

from recbole_llmkt.config import Config
from recbole_llmkt.datasets.metadata import read_item_metadata, read_user_metadata
from recbole_llmkt.utils.exceptions import DataError


@pytest.fixture
def items(tiny):
    """Return a function that writes tiny.item and gives a configuration."""

    def write(content: str | bytes, **keys):
        raw = content if isinstance(content, bytes) else content.encode()
        (tiny.folder / "tiny.item").write_bytes(raw)
        return tiny.config(**keys)

    return write


def test_columns_are_guessed_and_the_guess_is_logged(items, caplog):
    config = items(
        "item_id:token\tmovie_title:token_seq\tgenre:token_seq\tyear:token\ni1\tA b\tX Y\t1\n"
    )
    with caplog.at_level(logging.INFO):
        item = read_item_metadata(config)["i1"]
    assert (item.title, item.categories, item.text) == ("A b", ("X", "Y"), "")
    assert item.other == {"year": "1"}
    assert "'movie_title'" in caplog.text and "'genre'" in caplog.text


def test_named_columns_win_over_guesses(items):
    config = items("item_id:token\ttitle:token\tname:token\ni1\tT\tN\n", profile_title_field="name")
    assert read_item_metadata(config)["i1"].title == "N"


def test_windows_file_with_byte_order_mark_blank_lines_and_gaps(items):
    config = items(
        b"\xef\xbb\xbfitem_id:token\ttitle:token_seq\tgenre:token_seq\r\n"
        b"i1\tAm\xc3\xa9lie \xe2\x80\xa8 \xf0\x9f\x8e\xac\tX\r\n\r\ni2\tShort line\r\n"
    )
    metadata = read_item_metadata(config)
    assert metadata["i1"].title == "Amélie \u2028 🎬"
    assert (metadata["i2"].title, metadata["i2"].categories) == ("Short line", ())


def test_separators_of_the_configuration(items):
    config = items(
        "item_id:token,title:token,genre:token_seq\ni1,T,a|b|c\n",
        field_separator=",",
        seq_separator="|",
    )
    assert read_item_metadata(config)["i1"].categories == ("a", "b", "c")


def test_amazon_cds_in_the_format_of_recboles_download(tmp_path):
    folder = tmp_path / "data" / "amazon-cds-vinyl"
    folder.mkdir(parents=True)
    (folder / "amazon-cds-vinyl.item").write_text(
        "item_id:token\tcategories:token_seq\ttitle:token\tprice:float\tsales_type:token\t"
        "sales_rank:float\tbrand:token\n"
        "B1\t'CDs & Vinyl', 'Pop'\tKind of Blue\t9.99\tMusic\t42.0\tMiles Davis\n"
        'B2\t"\'CDs & Vinyl\', ""Children\'s Music"""\t"The ""Best"" of"\t\t\t\t\n',
        encoding="utf-8",
    )
    config = Config(
        "BPR",
        "amazon-cds-vinyl",
        config_dict={"data_path": str(tmp_path / "data")},
        command_line=[],
    )
    metadata = read_item_metadata(config)
    assert metadata["B1"].title == "Kind of Blue"
    assert metadata["B1"].categories == ("CDs & Vinyl", "Pop")
    assert metadata["B1"].other["brand"] == "Miles Davis"
    assert metadata["B2"].title == 'The "Best" of'
    assert metadata["B2"].categories == ("CDs & Vinyl", "Children's Music")
    assert metadata["B2"].other == {}


def test_users(tiny):
    config = tiny.config()
    assert read_user_metadata(config) == {}
    (tiny.folder / "tiny.user").write_text("user_id:token\tage:token\nu1\t24\nu2\t\n")
    assert read_user_metadata(config) == {"u1": {"age": "24"}, "u2": {}}


@pytest.mark.parametrize(
    ("content", "keys", "message"),
    [
        ("item_id:token\tprice:float\ni1\t2\n", {}, "item_id, price.*profile_title_field"),
        ("item_id:token\ttitle:token\ni1\tT\n", {"profile_title_field": "tittle"}, "Did you mean"),
        ("item_id:token\ttitle:token\ni1\tT\tx\n", {}, "Line 2 .* 3 cells.*2 columns"),
        ('item_id:token\ttitle:token\ni1\t"T\ni2\tU\n', {}, "quotation mark"),
        (b"item_id:token\ttitle:token\ni1\t\xff\n", {}, "encoding"),
        ("movie:token\ttitle:token\ni1\tT\n", {}, "ITEM_ID_FIELD"),
        ("", {}, "has no header"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(items, content, keys, message):
    config = items(content, **keys)
    with pytest.raises(DataError, match=rf"(?s)tiny\.item.*{message}|{message}"):
        read_item_metadata(config)


def test_missing_file_says_what_to_add(tiny):
    with pytest.raises(DataError, match=r"tiny\.item.*title:token_seq.*data_path"):
        read_item_metadata(tiny.config())
