"""What the items are, by the names of the columns."""

from __future__ import annotations

import logging

import pytest

from recbole_llmkt.datasets.domains import DOMAINS, domain_of, guess_domain


@pytest.mark.parametrize(
    ("names", "domain"),
    [
        (["item_id", "movie_title", "release_year", "class"], "movies"),
        (["itemId", "artistName", "genre"], "music"),
        (["id", "authors", "isbn", "price"], "books"),
        (["headline", "body"], "news"),
        (["email", "sku", "date", "qty"], "shop"),
        (["my-films"], "movies"),
        (["user_id", "item_id", "timestamp", "title", "genre"], "generic"),
        ([], "generic"),
    ],
)
def test_the_names_decide(names, domain):
    guessed, because = guess_domain(names)
    assert guessed == domain in DOMAINS
    assert bool(because) is (domain != "generic")


def test_the_guess_reads_the_files_and_is_logged(tiny, caplog):
    header = "item_id:token\ttitle:token_seq\tdirector:token\n"
    (tiny.folder / "tiny.item").write_text(header + "i1\tA\tB\n")
    with caplog.at_level(logging.INFO):
        assert domain_of(tiny.config()) == "movies"
    assert "taking 'movies', because of the name director" in caplog.text
    assert domain_of(tiny.config(profile_domain="books")) == "books"
    (tiny.folder / "tiny.item").unlink()
    assert domain_of(tiny.config()) == "generic"


def test_movielens_is_of_films(tiny):
    from recbole_llmkt.config import Config

    config = Config("BPR", "ml-100k", command_line=[])
    assert domain_of(config) == "movies"
