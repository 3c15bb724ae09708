"""The table of ``llmkt journal``."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from recbole_llmkt.cli.journal import journal


def line(arm, seed, **changes):
    values = {
        "model": "BPR",
        "arm": arm,
        "seed": seed,
        "dataset": "tiny",
        "digest": "0123456789abcdef",
        "seconds": 2.6,
        "time": f"2024-05-0{seed}T13:30:00+02:00",
        "settings": {"epochs": 4, "valid_metric": "NDCG@10", "note": f"seed\n{seed}"},
    }
    return {**values, **changes}


@pytest.fixture
def run(tmp_path):
    records = [
        line("base", 1, status="ok", epochs=4, test={"ndcg@10": 0.12345}),
        line("kt", 2, status="failed", error="out of memory " + 60 * "x"),
    ]
    text = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "results.jsonl").write_text(text)

    def run(*arguments, exit_code=0):
        result = CliRunner().invoke(journal, [str(tmp_path), *arguments])
        assert result.exit_code == exit_code, result.output
        return result.output

    return run


def test_a_line_for_each_run_with_its_score_or_its_error(run):
    output = run()
    base, kt = output.splitlines()[2:4]
    assert "2024-05-01 11:30" in base  # UTC
    assert "0.12" in base
    assert base.split()[-2:] == ["3", "0123456789abcdef"]
    assert "out of memory" in kt
    assert "x" * 50 not in kt  # a long error is cut
    assert output.endswith("\n2 of 2 runs.\n")


def test_the_count_says_how_many_are_hidden(run):
    assert run("--status=failed").endswith("\n1 of 2 runs.\n")
    assert "\n0 of 2 runs." in run("--arm=random")


def test_what_others_wrote_is_shown_without_escapes(tmp_path):
    record = line("base", 1, status="failed", error="\x1b[31mred\u202e\nnext", dataset="a\x9b1m")
    (tmp_path / "results.jsonl").write_text(json.dumps(record) + "\n")
    for options in ([], ["--json"]):
        output = CliRunner().invoke(journal, [str(tmp_path), *options]).output
        assert "red" in output and not {"\x1b", "\x9b", "\u202e"} & set(output)
    assert json.loads(output)[0]["error"] == record["error"]


def test_a_difference_is_one_line_for_each_key(run):
    output = run("--diff", "BPR-base-1", "BPR-kt-2")
    (note,) = [row for row in output.splitlines() if row.startswith("note")]
    assert "1" in note
    assert "2" in note
    assert "1 keys differ." in output


def test_a_date_that_cannot_be_read_is_refused(run):
    assert "'tomorrow' does not match" in run("--since=tomorrow", exit_code=2)
