from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recbole_llmkt.datasets.history import training_histories
from recbole_llmkt.datasets.splits import training_split
from recbole_llmkt.profiles.generation.run import estimate, generate_profiles
from recbole_llmkt.profiles.generation.selection import Selection, parse_shard, shard_folder
from recbole_llmkt.profiles.store import Profile, ProfileStore, read_manifest
from recbole_llmkt.utils import resources
from recbole_llmkt.utils.exceptions import ConfigError, DataError, ProfileError
from tests.helpers import TinyDataset
from tests.profiles.generation.helpers import write_items
from tests.profiles.generation.openai_server import TEXT, OpenAIServer, Reply


@pytest.fixture
def data(make_dataset: Any) -> TinyDataset:
    dataset = make_dataset()
    write_items(dataset)
    return dataset


def _folder(data: TinyDataset) -> Path:
    return data.folder / "profiles"


def _edit(store: ProfileStore, token: str, **values: Any) -> None:
    profile = store.read()[token]
    with store.writing():
        store.append(Profile(**{**vars(profile), **values}))


def test_users_are_described_from_their_training_interactions(data: TinyDataset) -> None:
    config = data.config()
    summary = generate_profiles(config, "user")
    assert (summary.written, summary.failed, summary.skipped) == (30, 0, 0)
    profiles = ProfileStore(_folder(data), "user").read()
    digests = training_histories(training_split(config)).digests()
    assert {token: profile.history for token, profile in profiles.items()} == digests
    assert all(
        profile.generator == "template" and profile.prompt == "" for profile in profiles.values()
    )
    assert read_manifest(_folder(data))["user_profiles"]["generator"] == "template"
    assert generate_profiles(config, "user").skipped == 30


def test_items_are_described_from_metadata(data: TinyDataset) -> None:
    summary = generate_profiles(data.config(), "item")
    profiles = ProfileStore(_folder(data), "item").read()
    assert summary.written == len(profiles) == 40
    assert profiles["i1"].text == "The Story of i1 (1951). Categories: Comedy."
    assert profiles["i1"].history is None


def test_items_without_a_title_get_no_profile(
    make_dataset: Any, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_dataset()
    write_items(data, without=("i3", "i4"))
    generate_profiles(data.config(), "item")
    assert "2 of 40 items, such as 'i3', have no title" in caplog.text or "'i4'" in caplog.text
    assert len(ProfileStore(_folder(data), "item").read()) == 38


def test_the_prompt_shows_the_chosen_interactions_only(data: TinyDataset) -> None:
    config = data.config(
        profile_generator="openai",
        profile_model="m",
        profile_max_history=3,
        profile_history="recent",
        profile_api_base="http://127.0.0.1:1/v1",
    )
    cost = estimate(config, "user", price_in=1.0, price_out=10.0)
    histories = training_histories(training_split(config))
    tokens = histories.item_tokens[histories.items(1)]
    assert cost.count == 30 and cost.skipped == 0 and len(cost.first) == 3
    shown = [line for line in cost.first[0].splitlines() if line.startswith("- ")]
    assert [line.split(" (")[0] for line in shown] == [f"- The Story of {t}" for t in tokens[-3:]]
    assert cost.tokens_out == 30 * 400
    assert cost.tokens_in == pytest.approx(30 * len(cost.first[0]) / 4, rel=0.1)
    assert cost.cost == pytest.approx((cost.tokens_in + 10 * cost.tokens_out) / 1e6)


def test_only_changed_histories_are_written_again(data: TinyDataset) -> None:
    generate_profiles(data.config(), "user")
    shorter = data.config(
        eval_args={**data.settings()["eval_args"], "split": {"RS": [0.5, 0.25, 0.25]}}
    )
    old = training_histories(training_split(data.config())).digests()
    new = training_histories(training_split(shorter)).digests()
    changed = sum(old[token] != digest for token, digest in new.items())
    assert 0 < generate_profiles(shorter, "user").written == changed


def test_edits_are_kept_unless_told_otherwise(data: TinyDataset) -> None:
    config = data.config()
    generate_profiles(config, "user")
    store = ProfileStore(_folder(data), "user")
    _edit(store, "u3", text="Mine.", edited=True, history="another")
    assert generate_profiles(config, "user").written == 0
    assert store.read()["u3"].text == "Mine."
    assert generate_profiles(config, "user", Selection(overwrite_edits=True)).written == 1
    assert store.read()["u3"].text.startswith("Likes") and not store.read()["u3"].edited


def test_failures_are_recorded_and_taken_up_on_demand(
    data: TinyDataset, caplog: pytest.LogCaptureFixture
) -> None:
    healthy = False

    def decide(number: int, payload: dict[str, Any]) -> Reply:
        return Reply(text="" if number < 6 and not healthy else TEXT)

    with OpenAIServer(decide) as server:
        config = data.config(
            profile_generator="openai",
            profile_model="m",
            profile_api_base=server.address,
            profile_concurrency=1,
        )
        summary = generate_profiles(config, "user")
        assert (summary.written, summary.failed) == (27, 3)
        assert summary.tokens_in == 33 * 11 and summary.tokens_out == 33 * 7
        assert "3 user profiles failed" in caplog.text and "empty" in caplog.text
        failed = [
            profile
            for profile in ProfileStore(_folder(data), "user").read().values()
            if profile.error
        ]
        assert len(failed) == 3 and {profile.text for profile in failed} == {""}
        again = generate_profiles(config, "user")
        assert (again.written, again.failed, again.skipped) == (0, 0, 30)
        healthy = True
        retried = generate_profiles(config, "user", Selection(retry_failed=True))
        assert (retried.written, retried.failed, retried.skipped) == (3, 0, 27)
    assert len(server.payloads) == 36
    assert all(profile.usable for profile in ProfileStore(_folder(data), "user").read().values())


def test_a_server_that_goes_away_costs_nothing_that_was_answered(data: TinyDataset) -> None:
    def decide(number: int, _: dict[str, Any]) -> Reply:
        return Reply() if number < 9 else Reply(status=401, text="expired")

    with OpenAIServer(decide) as server:
        config = data.config(
            profile_generator="openai",
            profile_model="m",
            profile_api_base=server.address,
            profile_concurrency=1,
        )
        with pytest.raises(ProfileError, match="expired"):
            generate_profiles(config, "user")
        assert len(ProfileStore(_folder(data), "user").read()) == 9
        server.decide = lambda *_: Reply()
        assert generate_profiles(config, "user").written == 21


def _asking(data: TinyDataset, server: OpenAIServer, **keys: Any) -> Any:
    return data.config(
        profile_generator="openai",
        profile_model="m",
        profile_api_base=server.address,
        **{"profile_concurrency": 2, **keys},
    )


@pytest.mark.parametrize(
    ("reply", "reason", "fix"),
    [
        (Reply(finish="length"), "cut off", "raise profile_max_tokens"),
        (Reply(text=""), "empty", "profile_model"),
        (Reply(text="<think>hm</think>"), "empty", "raise profile_max_tokens"),
        (Reply(text="I cannot help with that."), "a refusal", "profile_prompt"),
        (Reply(finish="content_filter"), "refusal by the server", "profile_prompt"),
        (Reply(text="x" * 4001), "too long", "raise profile_max_tokens"),
        (
            Reply(raw=b"<html>no</html>"),
            "unreadable answer: <html>no</html>",
            "see what the server",
        ),
    ],
)
def test_a_run_without_any_success_stops_after_twenty(
    data: TinyDataset, reply: Reply, reason: str, fix: str
) -> None:
    with OpenAIServer(lambda *_: reply) as server:
        config = _asking(data, server)
        with pytest.raises(
            ProfileError, match=rf"20 profiles in a row.*20 of them.*{reason}"
        ) as refusal:
            generate_profiles(config, "user")
        assert f"Fix: {fix}" in str(refusal.value) or fix in str(refusal.value)
        assert "--retry-failed" in str(refusal.value) and "\n" not in str(refusal.value)
        assert 40 <= len(server.payloads) <= 46, "each of twenty is asked twice"
        stored = ProfileStore(_folder(data), "user").read()
        assert len(stored) == 20 and all(profile.error for profile in stored.values())
        server.decide = lambda *_: Reply()
        assert generate_profiles(config, "user").written == 10
        assert generate_profiles(config, "user", Selection(retry_failed=True)).written == 20


def test_the_usual_reason_is_the_one_that_is_named(data: TinyDataset) -> None:
    def decide(number: int, _: dict[str, Any]) -> Reply:
        return Reply(finish="length") if number % 8 < 6 else Reply(text="")

    with OpenAIServer(decide) as server:
        with pytest.raises(ProfileError, match=r"15 of them because it was cut off"):
            generate_profiles(_asking(data, server, profile_concurrency=1), "user")
        assert len(server.payloads) <= 42


def test_failures_that_do_not_follow_each_other_stop_nothing(data: TinyDataset) -> None:
    def decide(_: int, payload: dict[str, Any]) -> Reply:
        good = len(payload["messages"][-1]["content"]) % 7 == 0
        return Reply() if good or len(server.payloads) % 30 == 0 else Reply(text="")

    with OpenAIServer(decide) as server:
        summary = generate_profiles(_asking(data, server), "user")
    assert summary.written + summary.failed == 30 and summary.written


def test_a_server_that_is_down_stops_the_run(data: TinyDataset) -> None:
    with OpenAIServer(lambda *_: Reply()) as server:
        pass
    config = _asking(data, server, profile_retries=0)
    with pytest.raises(ProfileError, match=r"cannot be reached.*Fix: correct profile_api_base"):
        generate_profiles(config, "user")


def test_parts_cover_everything_once(data: TinyDataset) -> None:
    config = data.config()
    parts = [generate_profiles(config, "user", Selection(f"{n}/3")) for n in (1, 2, 3)]
    assert sum(part.written for part in parts) == 30 and min(p.written for p in parts) > 0
    stores = [ProfileStore(shard_folder(_folder(data), f"{n}/3"), "user") for n in (1, 2, 3)]
    tokens = [token for store in stores for token in store.read()]
    assert len(tokens) == len(set(tokens)) == 30
    assert not ProfileStore(_folder(data), "user").exists()
    assert generate_profiles(config, "user", Selection("2/3")).written == 0
    assert ProfileStore(_folder(data), "user").merge(stores) == 30
    assert generate_profiles(config, "user").written == 0


def test_what_template_wrote_gives_way_to_a_language_model(data: TinyDataset) -> None:
    generate_profiles(data.config(), "user")
    with OpenAIServer(lambda *_: Reply()) as server:
        keys = {"profile_generator": "openai", "profile_api_base": server.address}
        config = data.config(**keys, profile_model="m")
        assert generate_profiles(config, "user").written == 30
        assert generate_profiles(config, "user").written == 0
        profiles = ProfileStore(_folder(data), "user").read()
        assert {profile.generator for profile in profiles.values()} == {"openai"}
        # And never the other way round.
        assert generate_profiles(data.config(), "user").written == 0


def test_what_another_model_wrote_stays_unless_told_otherwise(
    data: TinyDataset, caplog: pytest.LogCaptureFixture
) -> None:
    with OpenAIServer(lambda *_: Reply()) as server:
        keys = {"profile_generator": "openai", "profile_api_base": server.address}
        generate_profiles(data.config(**keys, profile_model="old"), "user")
        config = data.config(**keys, profile_model="new")
        with caplog.at_level(logging.WARNING):
            assert generate_profiles(config, "user").written == 0
        assert "30 profiles by another generator" in caplog.text and "(openai old)" in caplog.text
        assert generate_profiles(config, "user", Selection(overwrite_others=True)).written == 30
        assert generate_profiles(config, "user", Selection(overwrite_others=True)).written == 0


def test_the_manifest_tells_of_profiles_that_were_written(data: TinyDataset) -> None:
    generate_profiles(data.config(), "user")
    before = (_folder(data) / "manifest.json").read_bytes()
    assert generate_profiles(data.config(profile_max_history=3), "user").written == 0
    assert (_folder(data) / "manifest.json").read_bytes() == before


def test_edits_are_not_overwritten_by_parts() -> None:
    with pytest.raises(ConfigError, match="without --shard"):
        Selection("1/3", overwrite_edits=True)


def test_users_of_untitled_items_alone_get_no_profile(
    data: TinyDataset, caplog: pytest.LogCaptureFixture
) -> None:
    histories = training_histories(training_split(data.config()))
    user_id = list(histories.user_tokens).index("u3")
    write_items(data, without=tuple(histories.item_tokens[histories.items(user_id)]))
    with caplog.at_level(logging.WARNING):
        generate_profiles(data.config(), "user")
    assert "neither do users who have only such items" in caplog.text
    assert "u3" not in ProfileStore(_folder(data), "user").read()


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "a/b", "1/0"])
def test_a_wrong_part_is_refused(shard: str) -> None:
    with pytest.raises(ConfigError, match="1/16"):
        parse_shard(shard)


def test_the_generator_file_is_an_import_with_a_note(
    data: TinyDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "made.jsonl"
    rows = [{"id": f"u{n}", "text": f"Text {n}", "history": "d"} for n in range(10)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    config = data.config(profile_generator="file", profile_file=str(path))
    with caplog.at_level(logging.WARNING):
        assert generate_profiles(config, "user").written == 10
    assert "Use `llmkt profile import" in caplog.text
    assert ProfileStore(_folder(data), "user").read()["u4"].history == "d"


def _write_rows(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def test_a_file_of_users_has_nothing_to_say_of_items(data: TinyDataset, tmp_path: Path) -> None:
    name = _write_rows(tmp_path / "made.jsonl", [{"user_id": "i3", "text": "Likes war."}])
    config = data.config(profile_generator="file", profile_file=name)
    with pytest.raises(DataError, match="no item profiles: no line has the key item_id"):
        generate_profiles(config, "item")
    assert not ProfileStore(_folder(data), "item").exists()


def test_a_changed_file_is_taken_again_and_corrections_stay(
    data: TinyDataset, tmp_path: Path
) -> None:
    rows = [{"item_id": f"i{n}", "text": f"Text {n}"} for n in range(1, 6)]
    config = data.config(
        profile_generator="file", profile_file=_write_rows(tmp_path / "made.jsonl", rows)
    )
    assert generate_profiles(config, "item").written == 5
    assert generate_profiles(config, "item").written == 0
    store = ProfileStore(_folder(data), "item")
    with store.writing():
        store.append(replace(store.read()["i1"], text="By hand.", edited=True))
    for row in rows[:3]:
        row["text"] += ", newly written"
    _write_rows(tmp_path / "made.jsonl", rows)
    assert generate_profiles(config, "item").written == 2
    texts = {token: profile.text for token, profile in store.read().items()}
    assert texts["i1"] == "By hand."
    assert texts["i2"] == "Text 2, newly written"
    assert texts["i5"] == "Text 5"


def test_missing_ratings_and_missing_items_are_said(make_dataset: Any) -> None:
    data = make_dataset()
    with pytest.raises(DataError, match=r"tiny\.item"):
        generate_profiles(data.config(), "user")
    write_items(data)
    config = data.config(profile_history="top_rated", profile_rating_field="none")
    with pytest.raises(DataError, match="profile_rating_field"):
        generate_profiles(config, "user")


def test_a_dry_run_is_refused_where_the_run_is(
    data: TinyDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = tmp_path / "bundled" / "tiny"
    monkeypatch.setattr(resources, "bundled_dir", lambda name: tmp_path / "bundled" / name)
    shutil.copytree(data.folder, bundled, dirs_exist_ok=True)
    generate_profiles(data.config(profile_dir=str(bundled / "profiles")), "user")
    for action in (generate_profiles, estimate):
        with pytest.raises(ProfileError, match="come with the package"):
            action(data.config(), "user")
    own = data.config(profile_dir=str(tmp_path / "own"))
    assert estimate(own, "user").count == generate_profiles(own, "user").written == 30
    assert estimate(own, "user").count == 0


def test_a_dry_run_of_a_file_counts_what_would_be_imported(
    data: TinyDataset, tmp_path: Path
) -> None:
    rows = [{"user_id": f"u{n}", "text": f"Text {n}"} for n in range(5)]
    name = _write_rows(tmp_path / "made.jsonl", rows)
    config = data.config(profile_generator="file", profile_file=name)
    assert estimate(config, "user").count == 5
    assert not ProfileStore(_folder(data), "user").exists()
    assert generate_profiles(config, "user").written == 5
    assert (estimate(config, "user").count, estimate(config, "user").skipped) == (0, 5)


def test_the_generator_file_needs_its_file(data: TinyDataset) -> None:
    for action in (generate_profiles, estimate):
        with pytest.raises(ConfigError, match="needs profile_file"):
            action(data.config(profile_generator="file"), "user")
