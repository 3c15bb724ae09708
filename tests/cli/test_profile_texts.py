"""Single profiles: what is refused leaves the store as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from recbole_llmkt.cli.profile_texts import edit, import_profiles, show
from recbole_llmkt.profiles.store import ProfileStore
from recbole_llmkt.utils.exceptions import ProfileError
from tests.helpers import write_profiles


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "profiles"
    write_profiles(folder, "user", {"u1": [1.0, 0.0], "u2": [0.0, 1.0]}, {})

    def run(command, *arguments):
        line = [*arguments, "--dataset=tiny", f"--profile_dir={folder}"]
        return CliRunner().invoke(command, line)

    run.store = ProfileStore(folder, "user")
    return run


@pytest.mark.parametrize("command", [show, edit])
def test_an_unknown_id_is_told_what_ids_look_like(run, command):
    result = run(command, "7")
    assert isinstance(result.exception, ProfileError)
    assert "has no profile of the user '7'; ids there look like 'u1'" in str(result.exception)


def test_show_names_text_file_and_writer(run):
    output = run(show, "u2").output
    assert output.startswith("Profile of u2\n")
    assert f"{run.store.path}: test, 2024-01-01T00:00:00" in output


@pytest.mark.parametrize("text", ["", "  \n", "\x1b[31m\x1b[0m"])
def test_an_empty_correction_is_refused(run, text):
    before = run.store.path.read_bytes()
    result = run(edit, "u1", f"--text={text}")
    assert isinstance(result.exception, ProfileError)
    assert "The corrected text is empty" in str(result.exception)
    assert run.store.path.read_bytes() == before


def test_the_same_text_is_no_correction(run):
    before = run.store.path.read_bytes()
    assert "Nothing changed." in run(edit, "u1", "--text= Profile of u1 ").output
    assert run.store.path.read_bytes() == before
    run(edit, "u1", "--text=Likes noir.")
    profiles = run.store.read()
    assert (profiles["u1"].text, profiles["u1"].edited) == ("Likes noir.", True)
    assert (profiles["u2"].text, profiles["u2"].edited) == ("Profile of u2", False)


def test_a_folder_of_another_dataset_is_refused(run, tmp_path):
    (tmp_path / "other.userprof").write_text("user_id:token\tprofile:token\nu1\ttext\n")
    result = run(import_profiles, str(tmp_path))
    assert isinstance(result.exception, ProfileError)
    assert "has no tiny.userprof, .useremb, .itemprof or .itememb" in str(result.exception)


def test_a_text_from_a_file_of_another_system(run):
    """Editors of Windows put a byte-order mark before utf-8, or write another encoding."""
    Path("text.txt").write_bytes("Likes noir.".encode("utf-8-sig"))
    assert "is corrected" in run(edit, "u1", "--file=text.txt").output
    assert run.store.read()["u1"].text == "Likes noir."
    Path("text.txt").write_bytes("Mag Füme.".encode("utf-16"))
    refused = run(edit, "u1", "--file=text.txt").exception
    assert isinstance(refused, ProfileError) and "'text.txt' is not utf-8" in str(refused)
