from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

from recbole_llmkt.cli.main import main
from recbole_llmkt.experiment.journal import find, read_journal
from recbole_llmkt.utils.exceptions import ConfigError


def record(model="BPR", arm="base", seed=1, status="ok", **changes):
    settings = {"learning_rate": 0.01, "kt_enabled": arm != "base", "valid_metric": "NDCG@10"}
    if arm != "base":
        settings["kt_weight"] = 0.3
    values = {
        "model": model,
        "arm": arm,
        "seed": seed,
        "dataset": "ml-100k",
        "digest": "0123456789abcdef",
        "status": status,
        "seconds": 3.0,
        "time": f"2024-05-0{seed}T12:00:00+00:00",
        "settings": settings,
    }
    result = {"test": {"hit@10": 0.7, "ndcg@10": 0.1234}, "epochs": 4}
    return {**values, **(result if status == "ok" else {"error": "out of memory"}), **changes}


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a comparison, and with another one in a folder below it."""

    def write(path, records):
        path.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(result) + "\n" for result in records)
        (path / "results.jsonl").write_text(lines)

    home = tmp_path / "out"
    write(home, [record(), record(arm="kt"), record(arm="kt", seed=2, status="failed")])
    write(home / "tuned" / "late", [record("NeuMF", seed=3), record(arm="kt", seed=3)])
    return home


def run(*arguments):
    result = CliRunner().invoke(main, ["journal", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def names(output):
    return [line.split()[0] for line in output.splitlines()[2:] if "ml-100k" in line]


def test_all_runs_of_a_folder_and_below_the_oldest_first(folder):
    output = run(folder)
    below = ["tuned/late/NeuMF-base-3", "tuned/late/BPR-kt-3"]
    assert names(output) == ["BPR-base-1", "BPR-kt-1", "BPR-kt-2", *below]
    assert "ndcg@10 0.1234" in output  # the metric that chose the checkpoint
    assert "out of memory" in output and "5 of 5 runs" in output and "2024-05-03 12:00" in output


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--model=NeuMF"], ["tuned/late/NeuMF-base-3"]),
        (["--model=NeuMF,BPR", "--arm=base"], ["BPR-base-1", "tuned/late/NeuMF-base-3"]),
        (["--status=failed"], ["BPR-kt-2"]),
        (["--since=2024-05-03"], ["tuned/late/NeuMF-base-3", "tuned/late/BPR-kt-3"]),
        (["--since=2024-05-03T12:00:01"], []),
        (["--seed=1", "--arm=kt"], ["BPR-kt-1"]),
        (["--dataset=other"], []),
    ],
)
def test_filters(folder, options, wanted):
    assert names(run(folder, *options)) == wanted


def test_the_difference_of_two_runs(folder):
    output = run(folder, "--diff", "BPR-base-1", "tuned/late/BPR-kt-3")
    rows = [line.split() for line in output.splitlines()[2:4]]
    assert rows == [["kt_enabled", "false", "true"], ["kt_weight", "-", "0.3"]]
    assert "2 keys differ" in output and "learning_rate" not in output


def test_json_holds_everything(folder):
    rows = json.loads(run(folder, "--json", "--model=NeuMF"))
    assert [row["run"] for row in rows] == ["tuned/late/NeuMF-base-3"]
    assert rows[0]["test"]["ndcg@10"] == 0.1234
    difference = json.loads(run(folder, "--json", "--diff", "BPR-base-1", "BPR-kt-1"))
    assert difference["settings"]["kt_weight"] == ["-", "0.3"]


def test_a_run_is_found_by_its_name_alone_where_that_is_clear(folder):
    entries = read_journal(folder)
    assert find(entries, "NeuMF-base-3").name == "tuned/late/NeuMF-base-3"
    with pytest.raises(ConfigError, match="Did you mean 'BPR-base-1'"):
        find(entries, "BPR-bsae-1")
    again = [*entries, find(entries, "NeuMF-base-3")]
    with pytest.raises(ConfigError, match="Name the folder"):
        find(again, "NeuMF-base-3")


def test_records_without_a_time_are_as_old_as_their_file(tmp_path):
    old = record()
    del old["time"]
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(old) + "\n")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    (entry,) = read_journal(tmp_path)
    assert entry.time.isoformat() == "2023-11-14T22:13:20+00:00"


def test_no_runs_is_one_clear_error(tmp_path):
    result = CliRunner().invoke(main, ["journal", str(tmp_path)])
    assert result.exit_code == 2
    assert "There is no results.jsonl" in result.output
