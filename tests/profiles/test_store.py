"""The store: nothing lost, nothing twice, one writer."""

from __future__ import annotations

import json
import logging
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from recbole_llmkt.profiles.store import (
    Profile,
    ProfileStore,
    failed,
    read_manifest,
    stale,
    utc_now,
    write_manifest,
)
from recbole_llmkt.utils.exceptions import ProfileError
from recbole_llmkt.utils.files import exclusive

WRITER = """
import sys
from recbole_llmkt.profiles.store import Profile, ProfileStore
store = ProfileStore(sys.argv[1], "user")
with store.writing():
    print("open", flush=True)
    for number in range(int(sys.argv[2]), 10**6):
        store.append(Profile(str(number), "text " * 200, "g", "m", "p", "h", "t"))
        print(number, flush=True)  # the caller was told that it is kept
"""


def profile(token: str, text: str = "text", **keys) -> Profile:
    return Profile(token, text, "g", "m", "prompt", keys.pop("history", "h"), utc_now(), **keys)


@pytest.fixture
def store(tmp_path):
    return ProfileStore(tmp_path / "profiles", "user")


def write(store, *profiles):
    with store.writing():
        for entry in profiles:
            store.append(entry)


def test_the_last_line_of_an_id_wins(store):
    first, second, other = profile("1", "old"), profile("1", "new"), profile("2")
    write(store, first, other)
    write(store, second)
    assert store.read() == {"1": second, "2": other}


def test_any_text_survives(store):
    text = 'line\nbreak\u2028 "quotes" \t 映画 \U0001f3ac'
    write(store, profile("ü\u2028", text), profile("2", "half of a pair: \ud83c!"))
    assert store.read()["ü\u2028"].text == text
    assert store.read()["2"].text == "half of a pair: ?!"


def test_a_store_that_an_editor_of_windows_saved(store):
    only = profile("1")
    write(store, only)
    store.path.write_bytes(b"\xef\xbb\xbf" + store.path.read_bytes())
    assert store.read() == {"1": only}


def test_texts_on_the_disk_have_no_control_characters(store):
    write(store, profile("x\x1b", "Likes \x1b[31mwar\x1b[0m\x07\tand\r\npeace."))
    assert store.read()["x\x1b"].text == "Likes war\tand\npeace."
    write(store, profile("x\u202e\x9b", "text"))
    content = store.path.read_text(encoding="utf-8")
    assert not {"\x1b", "\x9b", "\u202e"} & set(content) and "x\u202e\x9b" in store.read()
    line = json.loads(content.splitlines()[0])
    line["text"] = "Hidden \x9b2J\ud83d"  # by another program
    store.path.write_text(json.dumps(line) + "\n", encoding="utf-8")
    assert store.read()["x\x1b"].text == "Hidden ?"


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": 5},
        {"text": None},
        {"history": 3},
        {"error": []},
        {"time": 1},
        {"tokens_in": "many"},
    ],
)
def test_a_value_of_a_wrong_type_is_named(store, change):
    write(store, profile("1"))
    line = {**json.loads(store.path.read_text(encoding="utf-8")), **change}
    store.path.write_text(json.dumps(line) + "\n", encoding="utf-8")
    with pytest.raises(ProfileError, match=f"Line 1 .*{next(iter(change))}"):
        store.read()


def test_a_deeply_nested_line_is_an_own_error(store):
    write(store, profile("1"))
    store.path.write_bytes(b'{"id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n")
    with pytest.raises(ProfileError, match="Line 1 "):
        store.read()


def test_a_torn_last_line_is_dropped_with_a_note_and_cut_off(store, caplog):
    write(store, profile("1"))
    whole = store.path.read_bytes()
    for end in range(1, len(whole) - 1):
        store.path.write_bytes(whole + whole[:end])
        with caplog.at_level(logging.WARNING):
            assert list(store.read()) == ["1"]
        assert "cut off" in caplog.text
    write(store, profile("2"))
    assert list(store.read()) == ["1", "2"]
    assert store.path.read_bytes().startswith(whole + b'{"id": "2"')


def test_a_whole_last_line_stays_without_its_line_break(store, caplog):
    first, last, new = profile("1"), profile("2", "ü"), profile("3")
    write(store, first, last)
    content = store.path.read_bytes()
    store.path.write_bytes(content[:-1])
    assert store.read() == {"1": first, "2": last}
    write(store, new)
    assert store.read() == {"1": first, "2": last, "3": new}
    assert store.path.read_bytes().startswith(content + b'{"id": "3"')
    assert caplog.text == ""


@pytest.mark.parametrize("line", ["no json", "[]", '{"id": "1"}', '{"id": "1", "text": 3}'])
def test_another_broken_line_is_named(store, line):
    write(store, profile("1"))
    store.path.write_text(line + "\n" + store.path.read_text())
    with pytest.raises(ProfileError, match=r"Line 1 of .*user\.jsonl"):
        store.read()


def test_unknown_fields_of_a_newer_version_are_passed_over(store):
    write(store, profile("1"))
    values = {**json.loads(store.path.read_text()), "mood": "good"}
    store.path.write_text(json.dumps(values) + "\n")
    assert list(store.read()) == ["1"]


def test_a_second_writer_is_refused_here_and_in_another_process(store):
    other = ProfileStore(store.folder, "user")
    with store.writing():
        with pytest.raises(ProfileError, match="Another process is writing"), other.writing():
            pass
        ended = subprocess.run(
            [sys.executable, "-c", WRITER, str(store.folder), "0"], capture_output=True, text=True
        )
        assert ended.returncode != 0 and "Another process is writing" in ended.stderr
        with ProfileStore(store.folder, "item").writing():
            pass
    write(other, profile("1"))


def test_who_may_wait_gets_the_lock_when_it_is_free(tmp_path):
    order = []

    def second():
        with exclusive(tmp_path / ".lock", wait=True):
            order.append("second")

    with exclusive(tmp_path / ".lock"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_appending_needs_the_lock(store):
    with pytest.raises(ProfileError, match="writing"):
        store.append(profile("1"))


def test_an_error_inside_the_block_frees_the_lock(store):
    with pytest.raises(ZeroDivisionError), store.writing():
        store.append(profile("1"))
        1 / 0  # noqa: B018
    write(store, profile("2"))
    assert list(store.read()) == ["1", "2"]


def test_killed_at_random_instants_nothing_is_lost_and_nothing_twice(store):
    chance = random.Random(5)
    promised = -1
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store.folder), str(promised + 1)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        time.sleep(chance.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        told = [int(line) for line in process.stdout.read().split()]
        process.wait()
        kept = list(store.read())
        assert told == [] or str(told[-1]) in kept
        promised = max([promised, *map(int, kept)])
    with store.writing():
        pass  # cuts off what is torn
    ids = [json.loads(line)["id"] for line in store.path.read_bytes().splitlines()]
    assert ids == [str(number) for number in range(len(ids))]
    assert len(ids) > 8


def test_stale_ids(store):
    write(
        store,
        profile("fresh"),
        profile("changed", history="old"),
        profile("edited", history="old", edited=True),
        replace(profile("other prompt"), prompt="another"),
        profile("failed", "", error="refused"),
    )
    wanted = dict.fromkeys(["changed", "new", "fresh", "edited", "other prompt", "failed"], "h")
    assert stale(store, wanted, lambda entry: False) == ["changed", "new"]
    by_other = stale(store, wanted, lambda entry: entry.prompt != "prompt")
    assert by_other == ["changed", "new", "other prompt"]
    assert failed(store.read().values()) == ["failed"]


def test_merging_parts_takes_what_is_newer_once(store, tmp_path):
    old, new = "2024-01-01T00:00:00+00:00", "2025-01-01T00:00:00+00:00"
    write(
        store,
        replace(profile("1"), time=old),
        replace(profile("2"), time=new),
        replace(profile("3", edited=True), time=old),
    )
    part = ProfileStore(tmp_path / "shards" / "1-of-2", "user")
    write(
        part,
        replace(profile("1", "better"), time=new),
        replace(profile("2", "older"), time=old),
        replace(profile("3", "machine"), time=new),
        profile("4"),
    )
    assert store.merge([part]) == 2
    assert store.merge([part]) == 0
    assert [entry.text for entry in store.read().values()] == ["better", "text", "text", "text"]


def test_manifest(tmp_path):
    assert read_manifest(tmp_path) == {}
    write_manifest(tmp_path, {"dataset": "mine", "licence": "CC0"})
    write_manifest(tmp_path, {"dataset": "yours"})
    assert read_manifest(tmp_path) == {"dataset": "yours", "licence": "CC0", "format": 1}
    (tmp_path / "manifest.json").write_text('{"format": 99}')
    with pytest.raises(ProfileError, match="newer"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ProfileError, match="manifest"):
        read_manifest(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ProfileError, match="profile_dir"),
        ProfileStore(tmp_path / "file" / "x", "user").writing(),
    ):
        pass


def test_unknown_entity():
    with pytest.raises(ProfileError, match="user or item"):
        ProfileStore("x", "movie")
