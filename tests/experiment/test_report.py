from __future__ import annotations

import csv
import json
import re

import pytest

from recbole_llmkt.exceptions import DataError
from recbole_llmkt.experiment.report import make_report


def record(arm, seed, value, **changes):
    settings = {"kt_enabled": arm != "base", "learning_rate": 0.01, "valid_metric": "NDCG@10"}
    if arm != "base":
        settings["kt_weight"] = 0.3
    terms = [{"layer": "user_embedding", "entity": "user", "coverage": 0.975}]
    transfer = {"phase_switch": 2, "leaks": 0, "terms": terms} if arm != "base" else None
    values = {
        "model": "BPR",
        "arm": arm,
        "seed": seed,
        "dataset": "<b>ml</b>",
        "digest": "0123456789abcdef",
        "status": "ok",
        "seconds": 3.0,
        "settings": settings,
        "versions": {"torch": "2.0"},
        "test": {"ndcg@10": value, "hit@10": 4 * value},
        "epochs": 4,
        "curve": [[0, 0.1], [3, 0.2]],
        "transfer": transfer,
    }
    return {**values, **changes}


@pytest.fixture
def write(tmp_path):
    def write(*records):
        lines = "".join(json.dumps(one) + "\n" for one in records)
        (tmp_path / "results.jsonl").write_text(lines)
        return tmp_path

    return write


GOOD = (
    record("kt", 1, 0.11),
    record("base", 1, 0.10),
    record("base", 2, 0.20),
    record("kt", 2, 0.21),
)


def test_the_report_is_one_page_with_everything_in_it(write):
    folder = write(*GOOD)
    text = make_report(folder)
    assert re.search(r"base +0\.1500 ± 0\.0707", text)
    assert re.search(r"kt +\S*0\.1600 ± 0\.0707 +\+7\.5%", text)  # (10% + 5%) / 2
    assert text.index("base") < text.index("kt")
    assert "hints, not proof" in text

    page = (folder / "report.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 6  # three pictures, light and dark
    assert not re.search(r'(src|href|srcset)="(?!data:)', page)
    for wanted in ("+7.5%", "97.5%", "user_embedding", "prefers-color-scheme", "learning_rate"):
        assert wanted in page
    assert "<b>ml</b>" not in page  # escaped
    for name in ("summary.png", "curves.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert not list(folder.glob("*.partial"))


def test_the_csv_holds_the_figures(write):
    folder = write(*GOOD)
    make_report(folder)
    rows = list(csv.DictReader((folder / "summary.csv").open()))
    assert [(row["arm"], row["metric"]) for row in rows] == [
        ("base", "ndcg@10"),
        ("base", "hit@10"),
        ("kt", "ndcg@10"),
        ("kt", "hit@10"),
    ]
    assert float(rows[2]["gain_percent_mean"]) == pytest.approx(7.5)
    assert (rows[2]["seeds"], rows[2]["seeds_won"], rows[0]["gain_percent_mean"]) == ("2", "2", "")


def test_leaks_and_failures_cannot_be_overlooked(write):
    leaking = record("kt", 1, 0.1)
    leaking["settings"]["profile_allow_leak"] = True
    failed = record("kt", 2, 0.1, status="failed", error="out of <memory>")
    for name in ("test", "curve", "transfer", "epochs"):
        del failed[name]
    folder = write(record("base", 1, 0.1), leaking, failed)
    text = make_report(folder)
    page = (folder / "report.html").read_text()
    for wanted in ("profile_allow_leak is on", "BPR-kt-1", "BPR-kt-2 failed"):
        assert wanted in text
        assert wanted in page
    assert "\x1b[31m" in text
    assert page.count('class="alarm"') == 2
    assert "out of &lt;memory&gt;" in page


def test_a_report_of_failures_alone(write):
    failed = record("kt", 2, 0.1, status="failed", error="no memory")
    del failed["test"], failed["curve"]
    folder = write(failed)
    assert "no memory" in make_report(folder)
    assert (folder / "report.html").exists()


def test_no_results_is_one_clear_error(tmp_path):
    with pytest.raises(DataError, match="No results in"):
        make_report(tmp_path)
