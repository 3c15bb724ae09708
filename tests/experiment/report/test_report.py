from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from recbole_llmkt.evaluation.per_user import UserMetrics
from recbole_llmkt.experiment.report.embedding_map import FILE_NAME as MAP_NAME
from recbole_llmkt.experiment.report.embedding_map import ensure_maps, read_maps
from recbole_llmkt.experiment.report.report import make_report
from recbole_llmkt.experiment.report.tables import doubts
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.utils.exceptions import DataError
from tests.experiment.fake_runs import as_record, winner
from tests.helpers import add_profiles


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


def write_results(folder, *records):
    lines = "".join(json.dumps(line) + "\n" for line in records)
    (folder / "results.jsonl").write_text(lines)
    return folder


@pytest.fixture
def write(tmp_path):
    return lambda *records: write_results(tmp_path, *records)


@dataclass(frozen=True)
class Report:
    """A folder with a report, and what the terminal shows; nothing in it is to be changed."""

    folder: Path
    text: str


GOOD = (
    record("kt", 1, 0.11),
    record("base", 1, 0.10),
    record("base", 2, 0.20),
    record("kt", 2, 0.21),
)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = write_results(tmp_path_factory.mktemp("good"), *GOOD)
    return Report(folder, make_report(folder))


def test_the_report_is_one_page_with_everything_in_it(good):
    folder, text = good.folder, good.text
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


def test_the_page_tells_each_value_of_its_pictures_under_the_pointer(good):
    page = (good.folder / "report.html").read_text()
    said = re.findall(r'<i title="([^"]*)" style="left:[\d.]+%;top:[\d.]+%"></i>', page)
    assert "BPR base, NDCG@10: 0.150000 ± 0.070711 over 2 seeds" in said
    assert "BPR kt, seed 2, epoch 3: 0.2000" in said
    assert len(said) == 1 + 4 + 8  # a gain; two arms by two metrics; four curves of two epochs


def test_the_csv_holds_the_figures(good):
    rows = list(csv.DictReader((good.folder / "summary.csv").open()))
    assert [(row["arm"], row["metric"]) for row in rows] == [
        ("base", "ndcg@10"),
        ("base", "hit@10"),
        ("kt", "ndcg@10"),
        ("kt", "hit@10"),
    ]
    assert float(rows[2]["gain_percent_mean"]) == pytest.approx(7.5)
    assert (rows[2]["seeds"], rows[2]["seeds_won"], rows[0]["gain_percent_mean"]) == ("2", "2", "")


def test_leaks_and_failures_cannot_be_overlooked(write, undrawn):
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


# ---- evidence ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Return the report of kt that is 0.03 better than base and shuffled with each seed."""
    rng = np.random.default_rng(1)
    gains = {"base": 0.0, "kt": 0.03, "shuffled": 0.0}
    level = rng.normal(0.3, 0.1, 200)
    records, users = [], {}
    for arm, gain in gains.items():
        for seed in (1, 2, 3):
            values = level + gain + rng.normal(0.0, 0.05, len(level))
            run = record(arm, seed, float(values.mean()))
            part = {"slice": "tail_items", "part": "tail items", "bounds": "the 80%", "users": 150}
            run["slices"] = [{**part, "rows": 150, "metrics": {"ndcg@10": 0.1 + gain}}]
            if arm == "shuffled":
                run["settings"]["kt_control"] = "shuffled"
            records.append(run)
            users[f"BPR-{arm}-{seed}"] = values
    folder = write_results(tmp_path_factory.mktemp("planted"), *records)
    for name, values in users.items():
        tokens = np.array([f"u{i}" for i in range(len(values))])
        ones = np.ones(len(values), dtype=np.int64)
        path = folder / "runs" / name / "users.npz"
        UserMetrics(tokens, ones, ones, {"ndcg@10": values}).save(path)
    return Report(folder, make_report(folder))


def test_a_proven_gain_has_its_star_and_its_verdict_everywhere(planted):
    folder, text = planted.folder, planted.text
    page, markdown = ((folder / f"report.{kind}").read_text() for kind in ("html", "md"))
    for shown in (text, page, markdown):
        assert re.search(r"BPR, kt, NDCG@10 \+\d+\.\d% - win: better than base \(p = ", shown)
        assert "%*" in shown and "proven to differ from base" in shown
        assert shown.count("%*") == 1  # not the shuffled arm, and not hit@10, which is not tested
    assert 'class="win"' in page
    rows = list(csv.DictReader((folder / "tests.csv").open()))
    assert [(row["rival"], row["proven"]) for row in rows] == [("base", "1"), ("shuffled", "1")]
    assert all(float(row["holm_p"]) < 0.001 and row["users"] == "200" for row in rows)


def test_no_star_without_a_test(write, undrawn):
    """The same figures without metrics by user: nothing is proven, and the report says why."""
    folder = write(
        *(
            record(arm, seed, value + seed / 1e4)
            for arm, value in (("base", 0.1), ("kt", 0.2))
            for seed in (1, 2, 3)
        )
    )
    text = make_report(folder)
    assert "%*" not in text and "untested: kt and base have no metrics by user" in text
    assert "*:" not in (folder / "report.md").read_text()


def test_slices_are_drawn_and_listed(planted):
    folder = planted.folder
    (row,) = (row for row in csv.DictReader((folder / "slices.csv").open()) if row["arm"] == "kt")
    assert (row["slice"], row["users"], row["metric"]) == ("tail_items", "150", "ndcg@10")
    assert float(row["gain_percent_mean"]) == pytest.approx(30.0)
    assert "tail items (the 80%)" in (folder / "report.html").read_text()
    assert (folder / "slices.png").exists() and (folder / "gains.png").exists()


def test_markdown_tables_are_tables(planted):
    lines = (planted.folder / "report.md").read_text().splitlines()
    assert lines[0] == "# Knowledge transfer on &lt;b&gt;ml&lt;/b&gt;"
    assert not [line for line in lines if "<" in line.replace("\\<", "")]
    for heading in ("## Tests", "## Slices", "## Profiles", "## Runs"):
        place = lines.index(heading)
        head, rule, row = lines[place + 2 : place + 5]
        assert head.count("|") == rule.count("|") == row.count("|") > 2


# ---- the map of the profiles ------------------------------------------------------------------


def learned(runs, *entities):
    """Make the records of runs that learned from the profiles of these entities."""
    terms = [{"entity": entity, "coverage": 1.0} for entity in entities]
    return [
        as_record(
            record(run.arm, run.seed, 0.1, dataset="tiny", settings=dict(run.settings))
            | {"transfer": {"terms": terms} if run.settings["kt_enabled"] else None}
        )
        for run in runs
    ]


def test_the_map_is_made_once(tiny, tmp_path):
    lines = [f"i{i}\tItem {i}\t{'Drama' if i < 20 else 'War Comedy'}" for i in range(40)]
    header = "item_id:token\ttitle:token_seq\tgenres:token_seq"
    (tiny.folder / "tiny.item").write_text("\n".join([header, *lines]) + "\n")
    runs = Plan(["BPR"], ["base", "kt"], [1], "tiny", overrides=tiny.settings()).runs()
    ensure_maps(runs, learned(runs, "user", "item"), tmp_path)
    users, items = read_maps(tmp_path)
    assert (users.entity, users.points.shape) == ("user", (30, 2))
    assert (items.entity, items.points.shape) == ("item", (40, 2))
    assert items.categories.tolist().count("Drama") == 20 and "War" in items.categories
    assert set(users.categories) <= {"Drama", "War"} and users.method == "PCA"
    before = (tmp_path / MAP_NAME).stat().st_mtime_ns
    ensure_maps(runs, learned(runs, "user"), tmp_path)
    assert (tmp_path / MAP_NAME).stat().st_mtime_ns == before


def test_a_map_without_categories_has_no_colours(tiny, tmp_path):
    runs = Plan(["BPR"], ["kt"], [1], "tiny", overrides=tiny.settings()).runs()
    ensure_maps(runs, learned(runs, "user"), tmp_path)
    (drawn,) = read_maps(tmp_path)
    assert drawn.method == "PCA" and set(drawn.categories) == {""}


def test_there_is_no_map_of_broken_or_unused_profiles(tiny, tmp_path):
    runs = Plan(["BPR"], ["base", "shuffled"], [1], "tiny", overrides=tiny.settings()).runs()
    ensure_maps(runs, learned(runs, "user"), tmp_path)
    assert read_maps(tmp_path) == []


def test_there_is_no_map_of_one_profile(make_dataset, tmp_path):
    dataset = make_dataset()
    add_profiles(dataset, without=[f"u{i}" for i in range(1000) if i != 7])
    runs = Plan(["BPR"], ["kt"], [1], dataset.name, overrides=dataset.settings()).runs()
    ensure_maps(runs, learned(runs, "user"), tmp_path)
    assert read_maps(tmp_path) == []


def test_unequal_tuning_shows_whatever_commands_wrote_the_folder(write):
    def tuned(trials):
        return {"tuned": vars(winner(trials=trials, finalists=1, seeds=3))}

    def told(*pairs):
        return doubts([as_record(record(arm, 1, 0.1, **changes)) for arm, changes in pairs])

    assert told(("base", tuned(8)), ("kt", tuned(8))) == []
    (line,) = told(("base", tuned(3)), ("kt", tuned(8)))
    assert line.startswith("The arms of BPR were tuned with different numbers")
    (line,) = told(("base", {}), ("kt", tuned(8)))
    assert line.startswith("Some arms of BPR were tuned and others were not")


def test_the_report_says_why_there_is_no_map(write, undrawn):
    folder = write(*GOOD)
    make_report(folder)
    assert "There is no map of the profile embeddings" in (folder / "report.html").read_text()
    (folder / MAP_NAME).write_bytes(b"broken")
    with pytest.raises(DataError, match=f"{MAP_NAME}: not readable"):
        make_report(folder)
    np.savez(folder / MAP_NAME, **{"user points": np.ones((3, 3))})
    with pytest.raises(DataError, match=f"{MAP_NAME}: .*'user points' has shape"):
        make_report(folder)


def test_tuning_and_every_use_of_profiles_are_told(write, undrawn):
    tuned = {
        **{"keys": {"kt_weight": 0.123456}, "trial": 3, "metric": "NDCG@10", "score": 0.25},
        **{"trials": 8, "failed": 1, "seed": 2020, "space": "feedbeef", "unequal": True},
    }
    use = {"entity": "item", "coverage": 0.5, "profiles": 7, "generator": "g", "encoder": "e"}
    transfer = {
        **{"phase_switch": 0, "leaks": 0, "terms": []},
        "init": [{"table": "a.weight[0..7] (item)", **use}],
        "hybrid": [{"table": "b.weight[0..7] (item)", **use}],
    }
    folder = write(record("base", 1, 0.1), record("kt", 1, 0.2, tuned=tuned, transfer=transfer))
    assert "different numbers of trials" in make_report(folder)
    page = (folder / "report.html").read_text()
    for text in (
        "start of a.weight[0..7]",
        "hybrid b.weight[0..7]",
        "feedbeef",
        "kt_weight: 0.123",
    ):
        assert text in page, text
    assert "<td>epoch 0</td>" not in page
    markdown = (folder / "report.md").read_text()
    assert "| BPR" in markdown and "NDCG@10 0.2500 (seed 2020)" in markdown
    assert "## Tuning" in markdown


def test_nothing_of_others_is_passed_on(write):
    evil = "<img src=x onerror=alert(1)>\x1b[2J![a](http://b)|\n# c"
    folder = write(
        *(record(arm, 1, 0.1, dataset=evil, model=f"M{evil}") for arm in ("base", "kt")),
        record("base", 2, 0.1, dataset=evil, status="failed", error=f"no {evil}"),
    )
    table = make_report(folder)
    assert "\x1b[2J" not in table and "\n# c" not in table
    markdown = (folder / "report.md").read_text()
    assert (
        "<img" not in markdown
        and "\n# c" not in markdown
        and "](" not in markdown.replace("\\](", "")
    )
    page = (folder / "report.html").read_text()
    assert "<img src=x" not in page and "\x1b" not in page + markdown


def test_runs_link_to_their_logs_and_folders_within_the_folder(write, undrawn):
    folder = write(
        record("base", 1, 0.1),
        record("kt", 1, 0.1, model="A B"),
        record("kt", 1, 0.1, model="../../out"),
        record("kt", 2, 0.1, model='"><b>'),
    )
    names = ("BPR-base-1", "A B-kt-1", '"><b>-kt-2')
    for place in (*(folder / "runs" / name for name in names), folder.parent / "out-kt-1"):
        place.mkdir(parents=True)
        (place / "output.log").touch()
    make_report(folder)
    page = (folder / "report.html").read_text()
    addresses = re.findall(r'<a href="(?!data:)([^"]*)"', page)
    places = ("BPR-base-1", "A%20B-kt-1", "%22%3E%3Cb%3E-kt-2")
    wanted = [f"runs/{name}{file}" for name in places for file in ("", "/output.log")]
    assert sorted(addresses) == sorted(wanted)


def test_the_page_says_when_how_and_what_the_arms_are(write, undrawn):
    made = {"time": "2026-12-01T01:00:00+00:00", "command": "llmkt compare --models=<b>"}
    base, kt = record("base", 1, 0.1, **made), record("kt", 1, 0.123456789, **made)
    page_path = write(base, kt) / "report.html"
    make_report(page_path.parent)
    page = page_path.read_text()
    assert "2026-12-01; 2 runs" in page
    assert page.count("<pre>llmkt compare --models=&lt;b&gt;</pre>") == 1
    assert "<dt>base</dt><dd>the model alone, without profiles</dd>" in page
    # The exact values, for a pointer and for sorting.
    assert 'data-value="0.123456789" title="0.123457; gain +23.457%, 1 of 1 seeds better"' in page
    assert page.count("<script>") == 1 and "<script src" not in page


def test_a_damaged_map_is_drawn_again(tiny, tmp_path, caplog):
    runs = Plan(
        models=["BPR"], arms=["kt"], seeds=[1], dataset="tiny", overrides=tiny.settings()
    ).runs()
    term = {"layer": "user_embedding", "entity": "user", "coverage": 1.0}
    values = record("kt", 1, 0.1, dataset="tiny", transfer={"terms": [term], "leaks": 0})
    records = [as_record(values)]
    ensure_maps(runs, records, tmp_path)
    before = [drawn.points for drawn in read_maps(tmp_path)]
    (tmp_path / MAP_NAME).write_bytes(b"damaged")
    ensure_maps(runs, records, tmp_path)
    assert "drawn again" in caplog.text
    assert np.array_equal(read_maps(tmp_path)[0].points, before[0])
