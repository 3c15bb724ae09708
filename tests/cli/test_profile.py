"""``llmkt profile``: what people type, and what they get."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from recbole.data import create_dataset

from recbole_llmkt.cli.main import main
from recbole_llmkt.cli.profile import profile as group
from recbole_llmkt.config import Config
from recbole_llmkt.profiles import encoders
from recbole_llmkt.profiles.embeddings import read_embeddings
from recbole_llmkt.profiles.generation.run import generate_profiles
from recbole_llmkt.profiles.store import ProfileStore
from tests.helpers import ENCODER, in_fork, limited_files


class Lengths:
    """An encoder of two numbers."""

    name = ENCODER

    def encode(self, texts):
        return np.array([[len(text), 1] for text in texts], dtype=np.float32)


@pytest.fixture
def llmkt(tiny, tmp_path, monkeypatch):
    """Return a function that runs ``llmkt profile`` on the tiny dataset."""
    monkeypatch.setattr(encoders, "get_encoder", lambda config: Lengths())
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump(tiny.settings()))

    def run(*arguments, exit_code=0, **keywords):
        line = ["profile", *arguments, "--dataset=tiny", f"--config-files={settings}"]
        result = CliRunner().invoke(main, line, **keywords)
        assert exit_code in (None, result.exit_code), result.output
        return result.output

    return run


@pytest.fixture
def titled(make_dataset, tiny):
    """Give the tiny dataset titles, so that profiles can be written."""
    rows = [f"i{number}\tFilm number {number}\tDrama" for number in range(40)]
    header = "item_id:token\ttitle:token_seq\tgenre:token_seq"
    (tiny.folder / "tiny.item").write_text("\n".join([header, *rows]) + "\n")
    return tiny


def users(dataset, folder="profiles"):
    return ProfileStore(dataset.folder / folder, "user").read()


@pytest.mark.parametrize("name", ["", *sorted(group.commands)])
def test_every_command_explains_itself_with_an_example(name):
    result = CliRunner().invoke(main, ["profile", *([name] if name else []), "--help"])
    assert result.exit_code == 0
    assert "llmkt profile" in result.output.partition("Example")[2]
    assert "--dataset" in result.output


def test_a_file_of_items_leaves_users_alone(titled, llmkt, tmp_path):
    path = tmp_path / "films.jsonl"
    path.write_text('{"item_id": "i3", "text": "A film."}\n{"item_id": "u3", "text": "Another."}\n')
    line = ("--profile_generator=file", f"--profile_file={path}", "--profile_dir=new")
    out = llmkt(*line)
    assert "item: 2 profiles written" in out
    assert "user:" not in out
    assert "no user profiles" in llmkt(*line, "--entity=user", exit_code=2)


def test_profiles_made_elsewhere_need_no_titles(tiny, llmkt, tmp_path):
    assert not (tiny.folder / "tiny.item").exists()
    path = tmp_path / "tastes.jsonl"
    path.write_text('{"id": "u3", "text": "Likes war."}\n{"id": "new", "text": "Likes peace."}\n')
    assert "give --entity" in llmkt("import", str(path), "--profile_dir=new", exit_code=2)
    out = llmkt("import", str(path), "--profile_dir=new", "--entity=user")
    assert "2 user profiles imported" in out
    assert "Likes war." in llmkt("show", "u3", "--profile_dir=new")


def test_an_items_id_is_told_from_a_users(titled, llmkt):
    llmkt("--profile_dir=new")
    for command in (["show", "i3"], ["edit", "i3", "--text=x"]):
        message = llmkt(*command, "--profile_dir=new", exit_code=2)
        assert "one of the item 'i3': add --entity=item" in message


def test_an_items_id_is_told_from_a_users_where_users_have_no_profiles(titled, llmkt):
    llmkt("--profile_dir=new", "--entity=item")
    message = llmkt("show", "i3", "--profile_dir=new", exit_code=2)
    assert "one of the item 'i3': add --entity=item" in message
    assert "There are no user profiles" in llmkt("show", "u3", "--profile_dir=new", exit_code=2)
    llmkt("--profile_dir=new2", "--entity=user")
    message = llmkt("show", "i3", "--profile_dir=new2", exit_code=2)
    assert "that of the item 'i3', which has no profile yet" in message


def test_a_line_of_information_appears_once(titled, tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump(titled.settings()))
    line = ["profile", "--dataset=tiny", f"--config-files={settings}", "--dry-run"]
    done = in_fork(main, *line)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("INFO")]
    assert any("using column 'title'" in line for line in lines)
    assert len(lines) == len(set(lines))


def test_writing_embedding_and_writing_again(titled, llmkt):
    out = llmkt("--profile_dir=new", "--entity=user")
    assert "user: 30 profiles written, 0 failed, 0 up to date" in out
    assert f"user: 30 embeddings of width 2 by {ENCODER}" in out
    assert "user: 0 profiles written, 0 failed, 30 up to date" in llmkt(
        "--profile_dir=new", "--entity=user"
    )
    assert len(ProfileStore("new", "user").read()) == 30
    assert read_embeddings("new", ENCODER, "user").vectors.shape == (30, 2)


def test_a_run_that_is_stopped_says_what_is_kept(titled, llmkt, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("recbole_llmkt.profiles.generation.run.generate_profiles", stop)
    said = llmkt("--entity=item", exit_code=130)
    assert "Interrupted. What is finished is kept; the same command resumes." in said


def test_a_dry_run_writes_nothing(titled, llmkt, tmp_path):
    out = llmkt("--dry-run", "--profile_dir=new", "--entity=item")
    assert "item: 40 profiles to write" in out
    assert not (tmp_path / "cwd" / "new").exists()


def test_only_changed_histories_are_written_anew(titled, llmkt):
    llmkt("--profile_dir=new", "--entity=user")
    path = titled.folder / "tiny.inter"
    path.write_text(path.read_text() + "u3\ti0\t5\t2000000\nu3\ti39\t5\t2000001\n" * 5)
    out = llmkt("--profile_dir=new", "--entity=user")
    assert "user: 1 profiles written, 0 failed, 29 up to date" in out


def test_shards_are_merged(titled, llmkt):
    for part in (1, 2, 3):
        llmkt(f"--shard={part}/3", "--entity=user", "--profile_dir=new")
    assert not ProfileStore("new", "user").exists()
    out = llmkt("merge", "--profile_dir=new")
    assert "user: 30 profiles taken from 3 parts" in out and "item: no parts" in out
    assert "user: 0 profiles taken" in llmkt("merge", "--profile_dir=new", "--entity=user")
    assert len(ProfileStore("new", "user").read()) == 30


def test_the_papers_second_dataset_needs_no_column_names(tmp_path, monkeypatch):
    monkeypatch.setattr(encoders, "get_encoder", lambda config: Lengths())
    folder = tmp_path / "amazon-cds-vinyl"
    folder.mkdir()
    items = [
        f"B{n}\t'CDs & Vinyl', 'Jazz'\tAlbum {n}\t9.9\tMusic\t1.0\tMiles Davis" for n in range(9)
    ]
    header = (
        "item_id:token\tcategories:token_seq\ttitle:token\tprice:float\tsales_type:token\t"
        "sales_rank:float\tbrand:token"
    )
    (folder / "amazon-cds-vinyl.item").write_text("\n".join([header, *items]) + "\n")
    rows = [
        f"A{u}\tB{n}\t{1 + (u + n) % 5}.0\t{1388534400 + n}" for u in range(4) for n in range(9)
    ]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (folder / "amazon-cds-vinyl.inter").write_text("\n".join([header, *rows]) + "\n")
    line = ["profile", "--dataset=amazon-cds-vinyl", f"--data_path={tmp_path}"]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, result.output
    assert "user: 4 profiles written" in result.output
    assert "item: 9 profiles written" in result.output
    profiles = ProfileStore(folder / "profiles", "item").read()
    assert "Jazz" in profiles["B3"].text and "Album 3" in profiles["B3"].text


def test_show(tiny, llmkt):
    assert llmkt("show", "u3").startswith("Profile of u3\n")
    assert llmkt("show", "i3", "--entity=item").startswith("Profile of i3\n")
    assert "no profile of the user 'nobody'" in llmkt("show", "nobody", exit_code=2)


def test_an_edit_is_marked_and_kept(titled, llmkt, tmp_path):
    llmkt("--profile_dir=new", "--entity=user")
    assert "corrected" in llmkt("edit", "u3", "--text=Likes noir.", "--profile_dir=new")
    store = ProfileStore("new", "user")
    assert (store.read()["u3"].text, store.read()["u3"].edited) == ("Likes noir.", True)
    path = titled.folder / "tiny.inter"
    path.write_text(path.read_text() + "u3\ti0\t5\t2000000\n" * 5)
    assert "0 profiles written" in llmkt("--profile_dir=new", "--entity=user")
    assert "1 profiles written" in llmkt("--profile_dir=new", "--entity=user", "--overwrite-edits")
    assert store.read()["u3"].text != "Likes noir."


def test_edits_from_a_file_from_stdin_and_from_an_editor(tiny, llmkt, tmp_path, monkeypatch):
    (tmp_path / "text").write_text("From a file.\n", encoding="utf-8")
    llmkt("edit", "u1", f"--file={tmp_path / 'text'}")
    llmkt("edit", "u2", "--file=-", input="From stdin.")
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho "From an editor." > "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    llmkt("edit", "u3")
    profiles = users(tiny)
    assert [profiles[user].text for user in ("u1", "u2", "u3")] == [
        "From a file.",
        "From stdin.",
        "From an editor.",
    ]
    assert "Nothing changed" in llmkt("edit", "u3")
    assert "empty" in llmkt("edit", "u3", "--text= ", exit_code=2)


def test_bundled_profiles_are_not_edited():
    result = CliRunner().invoke(
        main, ["profile", "edit", "1", "--dataset=ml-100k", "--text=x"], catch_exceptions=False
    )
    assert result.exit_code == 2 and "copy" in result.output


def test_check_tells_and_draws(titled, llmkt, tmp_path):
    before = set((titled.folder / "profiles").iterdir())
    assert "30 of 30 (100.0%)" in llmkt("check", "--entity=user")
    assert set((titled.folder / "profiles").iterdir()) == before
    llmkt("edit", "u3", "--text=Profile of u4")
    out = llmkt("check", "--plot=here.png", exit_code=1)
    assert "(`llmkt profile edit ID --entity=user`)" in out
    assert "the same text: 1: u3=u4" in out or "the same text: 1: u4=u3" in out
    assert (tmp_path / "cwd" / "here.png").is_file()


def test_bundled_profiles_are_not_hidden_by_new_ones():
    result = CliRunner().invoke(
        main, ["profile", "--dataset=ml-100k", "--entity=user"], catch_exceptions=False
    )
    assert result.exit_code == 2 and "name it with profile_dir" in result.output


def test_bundled_profiles_may_have_others_beside_them():
    few = {"user_inter_num_interval": "[150,160]", "profile_dir": "mine"}
    config = Config("BPR", "ml-100k", config_dict=few, command_line=[])
    assert generate_profiles(config, "user").written > 5
    assert ProfileStore("mine", "user").exists()


def test_embeddings_of_older_texts_are_not_exported(tiny, llmkt):
    llmkt("edit", "u1", "--text=Likes noir.")
    assert "`llmkt profile embed` creates them" in llmkt("export", "--output=out", "--entity=user")
    assert not (Path("out") / "tiny.useremb").exists()


@pytest.mark.parametrize("numbers", ["nan 1", "1 2 3", "1 x"])
def test_embeddings_that_cannot_be_used_leave_the_old_ones(tiny, llmkt, numbers):
    llmkt("export", "--output=out", "--entity=user")
    path = Path("out") / "tiny.useremb"
    lines = path.read_text().splitlines()
    lines[-1] = lines[-1].partition("\t")[0] + "\t" + numbers
    path.write_text("\n".join(lines) + "\n")
    before = read_embeddings(tiny.folder / "profiles", ENCODER, "user").vectors.copy()
    assert "The vector of 'u" in llmkt("import", "out", "--entity=user", exit_code=2)
    after = read_embeddings(tiny.folder / "profiles", ENCODER, "user").vectors
    assert np.array_equal(before, after)


def test_export_and_import_are_inverse(tiny, llmkt):
    llmkt("export", "--output=out")
    llmkt("import", "out", "--profile_dir=copy")
    for entity in ("user", "item"):
        before = ProfileStore(tiny.folder / "profiles", entity)
        after = ProfileStore("copy", entity)
        assert after.read() == before.read()
        original = read_embeddings(before.folder, ENCODER, entity)
        copied = read_embeddings(after.folder, ENCODER, entity)
        assert (original.ids, original.texts) == (copied.ids, copied.texts)
        assert np.array_equal(original.vectors, copied.vectors)
    assert " 0 profiles imported" in llmkt("import", "out", "--profile_dir=copy", "--entity=user")


def test_importing_an_older_export_keeps_a_correction(tiny, llmkt):
    llmkt("export", "--output=out", "--entity=user")
    llmkt("edit", "u3", "--text=Likes noir.")
    out = llmkt("import", "out", "--entity=user")
    assert " 0 profiles imported" in out and " 29 embeddings imported" in out
    assert (users(tiny)["u3"].text, users(tiny)["u3"].edited) == ("Likes noir.", True)
    kept = read_embeddings(tiny.folder / "profiles", ENCODER, "user")
    assert len(kept.ids) == 29 and "u3" not in kept.ids
    out = llmkt("import", "out", "--entity=user", "--overwrite-edits")
    assert " 1 profiles imported" in out and " 30 embeddings imported" in out
    assert (users(tiny)["u3"].text, users(tiny)["u3"].edited) == ("Profile of u3", False)


def test_recbole_loads_the_exported_embeddings(tiny, llmkt):
    llmkt("export", f"--output={tiny.folder}")
    dataset = create_dataset(
        tiny.config(
            additional_feat_suffix=["useremb"],
            load_col={
                "inter": ["user_id", "item_id", "rating", "timestamp"],
                "useremb": ["uid", "user_emb"],
            },
            alias_of_user_id=["uid"],
            preload_weight={"uid": "user_emb"},
        )
    )
    loaded = dataset.get_preload_weight("uid")
    stored = read_embeddings(tiny.folder / "profiles", ENCODER, "user")
    for token, vector in zip(stored.ids, stored.vectors):
        user_id = dataset.field2token_id["user_id"][token]
        np.testing.assert_allclose(loaded[user_id], vector, rtol=1e-6)


def test_import_needs_files_columns_and_profiles(tiny, llmkt, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "tiny.userprof" in llmkt("import", str(empty), exit_code=2)
    (empty / "tiny.userprof").write_text("uid:token\ttext:token_seq\n1\tx\n")
    assert "no column 'profile'" in llmkt("import", str(empty), exit_code=2)
    (empty / "tiny.userprof").unlink()
    (empty / "tiny.useremb").write_text("uid:token\tuser_emb:float_seq\nu1\t1 2\n")
    assert "29 of them without a vector" in llmkt("import", str(empty), exit_code=2)
    (empty / "tiny.useremb").write_text("uid:token\tuser_emb:float_seq\nu1\t1 x\n")
    assert "vector of 'u1'" in llmkt("import", str(empty), exit_code=2)


def test_slips_are_explained(tiny, llmkt):
    assert "Did you mean 'profile_dir'" in llmkt("show", "u1", "--profile_dri=x", exit_code=2)
    assert "--key=value" in llmkt("--dry-run", "nonsense", exit_code=2)
    missing = CliRunner().invoke(main, ["profile", "show", "1"])
    assert missing.exit_code == 2 and "--dataset" in missing.output


HOSTILE = "\x1b[31mred\x1b]0;title\x07\x9b2J"


def test_terminal_escapes_are_not_passed_on(titled, llmkt):
    store = ProfileStore(titled.folder / "profiles", "user")
    old = store.read()["u3"]
    line = json.dumps({**vars(old), "text": f"Likes{HOSTILE}\nwar", "model": HOSTILE})
    store.path.write_text(f"{store.path.read_text()}{line}\n")
    row = f"i0\tFilm {HOSTILE}\tDrama{HOSTILE}\n"
    path = titled.folder / "tiny.item"
    path.write_text(path.read_text().replace("i0\tFilm number 0\tDrama\n", row))
    shown = llmkt("show", "u3", color=True)
    assert "Likesred\nwar" in shown
    dry = llmkt("--dry-run", "--profile_dir=new", color=True)
    asked = llmkt("show", HOSTILE, exit_code=2, color=True)
    for output in (shown, dry, asked, llmkt("check", exit_code=None, color=True)):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", output)


def test_a_correction_is_clean_and_of_bounded_length(titled, llmkt):
    llmkt("edit", "u3", f"--text=Likes{HOSTILE} war")
    assert users(titled)["u3"].text == "Likesred war"
    out = llmkt("edit", "u3", f"--text={'x' * 501}", "--profile_max_tokens=50", exit_code=2)
    assert "501 characters" in out and "profile_max_tokens" in out


def test_a_long_description_is_cut_by_template(titled, llmkt):
    path = titled.folder / "tiny.item"
    text = path.read_text().replace("genre:token_seq\n", "genre:token_seq\tdescription:token_seq\n")
    path.write_text(text.replace("number 0\tDrama\n", f"number 0\tDrama\t{'word ' * 2000}\n"))
    out = llmkt("--profile_dir=new", "--entity=item", "--profile_max_tokens=50")
    assert "40 profiles written, 0 failed" in out
    text = ProfileStore("new", "item").read()["i0"].text
    assert text.endswith("word ...") and 480 < len(text) <= 500


def test_an_address_that_cannot_work_is_said_at_once(titled, llmkt):
    out = llmkt("--profile_api_base=localhost:8000/v1", "--profile_generator=openai", exit_code=2)
    assert "write http://localhost:8000/v1" in out
    out = llmkt("--profile_api_base=ftp://me:secret@host", exit_code=2)
    assert "secret" not in out


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["edit", "u1", "--text=Likes noir."], "profile_dir"),
        (["export", "--output=out"], "--output"),
    ],
)
def test_a_full_disk_says_what_to_do(llmkt, arguments, option):
    with limited_files() as limit:
        limit(200)
        output = llmkt(*arguments, exit_code=2)
    last = output.splitlines()[-1]
    assert f"a folder on another disk with {option}. What is finished is kept; the same" in last
