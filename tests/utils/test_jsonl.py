from __future__ import annotations

import pytest

from recbole_llmkt.utils.exceptions import DataError, ProfileError
from recbole_llmkt.utils.files import exclusive
from recbole_llmkt.utils.jsonl import Fields, encoded_line, read_object, read_objects

FIX = "Delete line {line}."


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lines.jsonl"


def read(path):
    return [fields.required("n", int) for fields in read_objects(path, FIX)]


def test_a_missing_file_holds_no_lines(path):
    assert read(path) == []


def test_a_last_line_that_was_cut_off_is_left_out(path, caplog):
    path.write_bytes(b'{"n": 1}\n\n{"n": 2}\n{"n": ')
    assert read(path) == [1, 2]
    assert "cut off" in caplog.text
    path.write_bytes(b'{"n": 1}\n{"n": 2}')
    assert read(path) == [1, 2]  # only its line break is missing


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{broken", "not readable as JSON"),
        (b"\x00\x00", "not readable as JSON"),
        (b"\xff\xfe", "not readable as JSON"),
        (b"[" * 100_000, "not readable as JSON"),
        (b"[1, 2]", r"holds \[1, 2\], not a JSON object"),
        (b"null", "holds null, not a JSON object"),
        (b"{}", "the field 'n' is missing"),
        (b'{"n": "1"}', "'n' must be an integer, not \"1\""),
        (b'{"n": true}', "'n' must be an integer, not true"),
        (b'{"n": 1.5}', "'n' must be an integer"),
        (b'{"n": 1' + b"0" * 30 + b"}", "'n' must be an integer"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_with_its_fix(path, line, message):
    path.write_bytes(b'{"n": 1}\n' + line + b'\n{"n": 3}\n')
    with pytest.raises(DataError, match=rf"lines\.jsonl, line 2: {message}.*Delete line 2\."):
        read(path)


def test_a_folder_in_the_place_of_the_file_is_named(path):
    path.mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        read(path)


def test_fields_are_checked_by_type():
    values = {"text": "a", "m": {"a": 1, "b": 0.5}, "l": ["x"], "p": [{"n": 1}], "none": None}
    fields = Fields(values, "here", "Fix it.")
    assert fields.required("text", str) == fields.choice("text", ("a", "b")) == "a"
    assert fields.mapping("m", float) == {"a": 1, "b": 0.5} and fields.mapping("none", float) == {}
    assert fields.items("l", str) == ["x"]
    assert [part.required("n", int) for part in fields.parts("p")] == [1]
    assert fields.optional("none", str) is None and fields.optional("missing", str) is None
    assert fields.with_default("text", "b") == "a" and fields.with_default("none", 0.5) == 0.5
    assert fields.with_default("missing", 2) == 2
    assert fields.optional_items("l", str) == ["x"] and fields.optional_items("none", str) is None
    for read_it, message in (
        (lambda: fields.choice("text", ("b", "c")), "'text' must be b or c, not \"a\""),
        (lambda: fields.mapping("m", str), r"'m\.a' must be text"),
        (lambda: fields.items("l", int), r"'l\[0\]' must be an integer"),
        (lambda: fields.optional_items("l", int), r"'l\[0\]' must be an integer"),
        (lambda: fields.optional_items("text", str), "'text' must be a list"),
        (lambda: fields.with_default("text", 1), "'text' must be an integer"),
        (lambda: fields.parts("p")[0].required("m", str), r"here, 'p\[0\]': the field 'm'"),
        (lambda: fields.part("m").required("c", str), "here, 'm': the field 'c' is missing"),
        (lambda: fields.required("none", str), "'none' must be text, not null"),
    ):
        with pytest.raises(DataError, match=f"{message}.*Fix it"):
            read_it()


def test_a_lock_is_named_by_its_owner(tmp_path):
    with exclusive(tmp_path / ".lock"):
        with pytest.raises(ProfileError, match="another folder with profile_dir"):
            exclusive(tmp_path / ".lock").__enter__()
        with pytest.raises(DataError, match="another folder with --output"):
            exclusive(tmp_path / ".lock", False, DataError, "--output").__enter__()


def test_what_is_read_can_be_written_whatever_it_holds(path):
    values = {"n": 1, "name": "\ud800 \x9b2J \u00dc"}
    path.write_bytes(encoded_line(values))
    (fields,) = read_objects(path, FIX)
    assert fields.required("name", str) == values["name"]
    with pytest.raises(DataError) as error:
        fields.required("name", int)
    assert "\x9b" not in str(error.value) and str(error.value).encode()


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "1e400", None])
def test_a_file_of_one_object_is_read_or_refused(tmp_path, text):
    path = tmp_path / "file.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=r"file\.json.*Restore it\."):
        read_object(path, "Restore it.")
    path.write_text('{"format": 1}')
    assert read_object(path, "Restore it.").required("format", int) == 1
    path.write_text('\ufeff{"format": 1}')  # as editors of Windows save it
    assert read_object(path, "Restore it.").required("format", int) == 1
