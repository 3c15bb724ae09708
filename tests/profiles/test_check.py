"""The check: each kind of trouble is found, and only that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from recbole_llmkt.datasets.history import history_digest
from recbole_llmkt.profiles.check import check_profiles, check_stores, language, names, plot_lengths
from recbole_llmkt.profiles.store import Profile, ProfileStore
from tests.helpers import add_profiles

ENGLISH = "This viewer enjoys the quiet dramas of the seventies and dislikes loud comedies."


def profile(token, text, **keys):
    return Profile(token, text, "g", "m", "p", keys.pop("history", "h"), "t", **keys)


def test_every_kind_of_trouble_is_found():
    profiles = {
        "good": profile("good", ENGLISH),
        "same": profile("same", f"  {ENGLISH.upper()}"),
        "failed": profile("failed", "", error="refused twice"),
        "empty": profile("empty", " "),
        "sorry": profile("sorry", "I'm sorry, but I cannot describe a person."),
        "other": profile("other", "Likes westerns.", history="older"),
        "named": profile("named", "Praises *The Godfather* and big casts."),
        "stranger": profile("stranger", "Is not in the dataset."),
    }
    tokens = ["good", "same", "failed", "empty", "sorry", "other", "named", "missing"]
    report = check_profiles(
        "user",
        profiles,
        tokens,
        histories=dict.fromkeys(tokens, "h"),
        unseen_titles={"named": ["Godfather, The", "Big"], "good": ["Godfather, The"]},
    )
    assert (report.n_entities, report.n_profiles) == (8, 5)
    assert report.missing == ["missing"]
    assert report.failed == ["failed"]
    assert report.empty == ["empty"]
    assert report.refusals == ["sorry"]
    assert report.duplicates == [["good", "same"]]
    assert report.other_history == ["other"]
    assert report.leaking_titles == {"named": ["Godfather, The"]}
    assert report.n_problems == 6
    assert report.lengths == [13, 13, 8, 2, 6]
    text = "\n".join(report.lines())
    assert "5 of 8 (62.5%)" in text and "good=same" in text and "named (Godfather, The)" in text


def test_plain_descriptions_may_be_the_same_and_cannot_refuse():
    plain = {
        token: replace(profile(token, text), generator="template")
        for token, text in {"a": "Drama.", "b": "Drama.", "c": "I Cannot Help It (1970)."}.items()
    }
    report = check_profiles("item", plain, plain)
    assert report.n_problems == 0 and report.plain_duplicates == [["a", "b"]]
    assert "same plain description" in "\n".join(report.lines())
    mixed = {**plain, "b": profile("b", "Drama.")}
    assert check_profiles("item", mixed, mixed).duplicates == [["a", "b"]]
    corrected = {**plain, "b": replace(plain["b"], edited=True)}
    assert check_profiles("item", corrected, corrected).n_problems == 2


def test_profiles_from_other_interactions_are_listed_if_there_are_interactions_today():
    nothing = history_digest([])
    digests = {"fresh": "a" * 16, "old": "b" * 16, "gone": nothing, "new": nothing}
    written = {"fresh": "a" * 16, "old": "c" * 16, "gone": "d" * 16, "new": nothing}
    profiles = {token: profile(token, token, history=history) for token, history in written.items()}
    report = check_profiles("user", profiles, profiles, digests)
    assert report.other_history == ["old"]


def test_nothing_wrong_nothing_found():
    report = check_profiles("item", {"1": profile("1", ENGLISH, history=None)}, ["1"])
    assert report.n_problems == 0 and report.languages == {"English": 1}
    assert check_profiles("item", {}, []).lines()[0] == "item profiles: 0 of 0 (0.0%)"


@pytest.mark.parametrize(
    ("text", "title", "expected"),
    [
        ("fond of Toy Story and the like", "Toy Story", True),
        ("fond of Toy Storytelling", "Toy Story", False),
        ("a toy story", "Toy Story", False),
        ("likes The Usual Suspects", "Usual Suspects, The", True),
        ("heist movies with Heat", "Heat", False),
        ('quotes "Heat" often', "Heat", True),
        ("quotes \u201cHeat,\u201d often", "Heat", True),
        ("likes C++ (1995) a lot", "C++ (1995)", True),
        ("anything", "", False),
    ],
)
def test_naming_a_title(text, title, expected):
    assert names(text, title) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ENGLISH, "English"),
        ("Mag ruhige Dramen und ist von lauten Komödien nicht begeistert.", "German"),
        ("Cette personne aime les drames et les films avec des acteurs connus.", "French"),
        ("Prefiere los dramas y las películas del oeste, pero no la comedia.", "Spanish"),
        ("Любит тихие драмы и не любит комедии.", "Cyrillic"),
        ("静かなドラマが好きで、コメディは苦手。", "Japanese"),
        ("喜欢安静的剧情片,不喜欢喜剧。", "Chinese"),
        ("12345 !!", "unknown"),
        ("xyzzy plugh", "unknown"),
    ],
)
def test_language(text, expected):
    assert language(text) == expected


def test_lengths_become_a_picture(tmp_path):
    report = check_profiles("user", {"1": profile("1", ENGLISH)}, ["1"])
    plot_lengths([report, report], tmp_path / "new" / "lengths.png")
    assert (tmp_path / "new" / "lengths.png").read_bytes().startswith(b"\x89PNG")


def test_titles_outside_the_training_split_are_taken_from_the_dataset(tiny):
    titles = [f"i{number}\tThe Long Title{number}" for number in range(40)]
    (tiny.folder / "tiny.item").write_text("\n".join(["item_id:token\ttitle:token_seq", *titles]))
    mine = sorted((row for row in tiny.rows if row[0] == "u1"), key=lambda row: row[3])
    seen, unseen = (f"The Long Title{mine[at][1][1:]}" for at in (0, -1))
    add_profiles(tiny)
    store = ProfileStore(tiny.folder / "profiles", "user")
    with store.writing():
        old = store.read()["u1"]
        store.append(Profile("u1", f"{seen}; {unseen}.", "g", "", "", old.history, "t"))
    user, item = check_stores(tiny.config(), [store, ProfileStore(store.folder, "item")])
    assert user.leaking_titles == {"u1": [unseen]}
    assert user.other_history == [] and user.n_profiles == 30
    assert item.leaking_titles == {} and item.n_profiles == item.n_entities


def test_without_titles_the_rest_is_checked(tiny, caplog):
    store = ProfileStore(tiny.folder / "profiles", "user")
    (report,) = check_stores(tiny.config(), [store])
    assert report.n_profiles == 30 and "Titles in profiles are not checked" in caplog.text


def test_the_bundled_profiles_pass():
    from recbole_llmkt.config import Config
    from recbole_llmkt.utils import resources

    folder = resources.bundled_dir("ml-100k") / "profiles"
    stores = [ProfileStore(folder, "user"), ProfileStore(folder, "item")]
    for report in check_stores(Config("BPR", "ml-100k", command_line=[]), stores):
        assert report.n_problems == 0 and report.missing == []
        assert report.languages == {"English": report.n_profiles}
        assert len(report.leaking_titles) <= 1  # a sheriff who is also a film
