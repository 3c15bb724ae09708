from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from recbole_llmkt.utils.exceptions import ConfigError, DataError
from tests.experiment.fake_runs import winner

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def results():
    spec = importlib.util.spec_from_file_location("results_script", ROOT / "benchmarks/results.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(ROOT / "benchmarks"))  # as for a script that is started there
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return module


ENTRY = {
    "page": "docs/results.md",
    "title": "A table",
    "data": "MovieLens-100K",
    "commands": ["llmkt compare --models=BPR --dataset=ml-100k --output=out"],
    "output": "out",
}


@pytest.fixture
def project(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "docs/results.md").write_text(
        "before\n<!-- table t -->\nold\n<!-- end t -->\nafter"
    )
    lines = [
        {
            "model": model,
            "arm": arm,
            "seed": seed,
            "dataset": "ml-100k",
            "digest": "d",
            "status": "ok",
            "seconds": 10.0,
            "curve": [[0, 0.1]],
            "settings": {
                "profile_dir": "/home/me",
                "kt_weight": 0.1,
                "kt_control": "shuffled" if arm == "shuffled" else "none",
            },
            "test": {"ndcg@10": 0.4 * factor + seed / 1000, "recall@10": 0.3},
            "tuned": vars(winner(trials=30)),
        }
        for model in ("BPR", "NeuMF")
        for arm, factor in (("base", 1.0), ("kt", 1.1), ("shuffled", 1.05))
        for seed in (1, 2, 3)
    ]
    (tmp_path / "results/t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    return tmp_path


def manifest(project, **changes):
    path = project / "results/manifest.yaml"
    path.write_text(json.dumps({"t": {**ENTRY, **changes}}))
    return path


def test_a_table_names_its_command_data_seeds_and_trials(results, project):
    tables = results.read_manifest(manifest(project))
    (text,) = results.make_pages(tables, project).values()
    assert text.startswith("before\n<!-- table t -->\n**A table**\n")
    assert text.endswith("\n<!-- end t -->\nafter")
    assert "old" not in text
    for part in (ENTRY["commands"][0], "Data: MovieLens-100K.", "Seeds: 1, 2, 3.", "30 trials"):
        assert part in text
    row = next(line for line in text.splitlines() if line.startswith("| BPR") and "| kt" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:4] == ["0.4420 ± 0.0010", "0.3000 ± 0.0000"]
    assert cells[4] == "+10.0% (+9.9% to +10.0%)"
    assert cells[5].startswith("+4.7% (")
    assert "Mean over 2 models, kt: +10.0% over base, +4.7% over its control." in text
    again = results.insert(text, "t", results.markdown(tables[0]), Path("x"))
    assert again == text


def test_a_mean_is_of_one_metric(results, project):
    path = project / "results/t.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    clicks = [
        {**result, "model": f"Click{result['model']}", "test": {"auc": 0.7}} for result in lines
    ]
    path.write_text("".join(json.dumps(result) + "\n" for result in [*lines, *clicks]))
    text = results.markdown(results.read_manifest(manifest(project, metrics=["ndcg@10", "auc"]))[0])
    assert "Mean over 2 models by NDCG@10, kt: +10.0% over base, +4.7% over its control." in text
    assert "Mean over 2 models by AUC, kt: +0.0% over base, +0.0% over its control." in text


def test_what_makes_a_table_doubtful_is_said(results, project):
    path = project / "results/t.jsonl"
    first = json.loads(path.read_text().splitlines()[1])
    first["settings"]["profile_allow_leak"] = True
    first["tuned"]["unequal"] = True
    failed = {**first, "seed": 9, "status": "failed", "error": "x"}
    with path.open("a") as file:
        file.writelines(json.dumps(result) + "\n" for result in (first, failed))
    text = results.markdown(results.read_manifest(manifest(project))[0])
    for part in ("different budgets", "`profile_allow_leak` is on", "1 runs failed"):
        assert part in text


def add_test(project, model, arm, rival, p, difference=0.01):
    line = {"model": model, "arm": arm, "rival": rival, "metric": "ndcg@10", "users": 943}
    line.update(difference=difference, wilcoxon=p, ttest=p)
    with (project / "results/t_tests.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def column(text, head, model, arm):
    heads, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    place = [cell.strip() for cell in heads.split("|")].index(head)
    cells = [[cell.strip() for cell in row.split("|")] for row in rows]
    return next(row[place] for row in cells if row[1:3] == [model, arm])


@pytest.mark.parametrize(
    ("p_base", "p_control", "outcome"),
    [(0.001, 0.02, "**win**"), (0.06, 0.02, "not proven"), (0.001, 0.06, "not proven")],
)
def test_a_win_is_proven_over_base_and_control_of_all_models(
    results, project, p_base, p_control, outcome
):
    for model in ("BPR", "NeuMF"):  # two models: Holm doubles the smaller p-value
        add_test(project, model, "kt", "base", p_base)
        add_test(project, model, "kt", "shuffled", p_control)
    text = results.markdown(results.read_manifest(manifest(project))[0])
    assert column(text, "verdict", "NeuMF", "kt") == outcome
    assert column(text, "verdict", "NeuMF", "base") == ""
    assert column(text, "verdict", "NeuMF", "shuffled") == ""


def test_without_tests_by_user_nothing_is_proven(results, project):
    text = results.markdown(results.read_manifest(manifest(project))[0])
    assert column(text, "verdict", "BPR", "kt") == "untested"


def test_the_gain_over_another_method_is_a_column(results, project):
    text = results.markdown(results.read_manifest(manifest(project, rival="shuffled"))[0])
    assert column(text, "over shuffled", "BPR", "kt").startswith("+4.7%")
    assert column(text, "over shuffled", "BPR", "base") == ""


def test_parts_of_a_slice_are_a_second_table(results, project):
    (table,) = results.read_manifest(manifest(project, slices="history"))
    with pytest.raises(DataError, match="no slice 'history'"):
        results.markdown(table)
    path = project / "results/t.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        parts = [("long", 3, 1.0), ("short", 2, 0.5)]
        line["slices"] = [
            {
                "slice": "history",
                "part": part,
                "bounds": "",
                "users": users,
                "rows": users,
                "metrics": {"ndcg@10": factor * line["test"]["ndcg@10"]},
            }
            for part, users, factor in parts
        ]
    path.write_text("".join(json.dumps(result) + "\n" for result in lines))
    text = results.markdown(table)
    assert "| long (3 users)   | short (2 users)   |" in text
    assert "| BPR     | kt    | 0.4420 +10.0%    | 0.2210 +10.0%     |" in text


def test_the_gains_are_drawn(results, project):
    (table,) = results.read_manifest(manifest(project, plot="gains.png"))
    results.draw(table, project)
    assert (project / "gains.png").read_bytes().startswith(b"\x89PNG")


def test_a_column_for_each_model(results, project):
    tables = results.read_manifest(manifest(project, layout="models", metrics=["ndcg@10"]))
    text = results.markdown(tables[0])
    assert "| arm   | BPR" in text
    assert "0.4420 +10.0% (+4.7% over its control)" in text
    assert "| shuffled" not in text


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"metrics": ["ndgc@10"]}, DataError, "Did you mean 'ndcg@10'"),
        ({"layout": "columns"}, ConfigError, "rows or models"),
        ({"titel": "x"}, ConfigError, "Did you mean 'title'"),
        ({"page": "docs/none.md"}, DataError, "no page"),
        ({"rival": "shufled"}, DataError, "no arm 'shufled'.*Did you mean 'shuffled'"),
    ],
)
def test_a_bad_manifest_is_one_sentence(results, project, changes, error, message):
    with pytest.raises(error, match=message):
        results.make_pages(results.read_manifest(manifest(project, **changes)), project)


def test_missing_results_and_markers_are_named(results, project):
    tables = results.read_manifest(manifest(project))
    with pytest.raises(DataError, match="needs the lines '<!-- table x -->'"):
        results.insert("no markers", "x", "", Path("page.md"))
    (project / "results/t.jsonl").unlink()
    with pytest.raises(DataError, match="holds no results"):
        results.make_pages(tables, project)


def test_runs_keep_their_records_without_paths(results, project):
    (project / "out").mkdir()
    (project / "results/t.jsonl").rename(project / "out/results.jsonl")
    table, *_ = results.read_manifest(manifest(project, commands=["true", "test -d out"]))
    results.run_commands(table, project)
    kept = table.path.read_text()
    assert len(kept.splitlines()) == 18
    assert "/home/me" not in kept
    assert "curve" not in kept
    failing, *_ = results.read_manifest(manifest(project, commands=["false"]))
    with pytest.raises(DataError, match="`false` ended with 1"):
        results.run_commands(failing, project)


def test_a_command_may_name_a_folder_by_a_variable(results, project, monkeypatch):
    (project / "out").mkdir()
    (project / "results/t.jsonl").rename(project / "out/results.jsonl")
    table, *_ = results.read_manifest(manifest(project, commands=["test -d $THEIR_DATA"]))
    monkeypatch.delenv("THEIR_DATA", raising=False)
    with pytest.raises(DataError, match="needs an environment variable"):
        results.run_commands(table, project)
    monkeypatch.setenv("THEIR_DATA", "out")
    results.run_commands(table, project)
    assert table.path.is_file()


def test_models_that_were_run_elsewhere_keep_their_lines(results, project):
    (project / "out").mkdir()
    table, *_ = results.read_manifest(manifest(project))
    before = table.path.read_text().splitlines()
    again = [{**json.loads(line), "seconds": 99.0} for line in before]
    own = [line for line in again if line["model"] == "NeuMF"]
    for model in ("BPR", "NeuMF"):
        add_test(project, model, "kt", "base", 0.01)
    (project / "out/results.jsonl").write_text("".join(f"{json.dumps(result)}\n" for result in own))
    results.collect(table, project)
    written = [json.loads(line) for line in table.path.read_text().splitlines()]
    assert [(line["model"], line["seconds"]) for line in written] == [
        *[("BPR", 10.0)] * 9,
        *[("NeuMF", 99.0)] * 9,
    ]
    tests = table.beside("tests").read_text().splitlines()  # the new runs left no file by user
    assert [json.loads(line)["model"] for line in tests] == ["BPR"]


def test_the_documents_hold_what_the_raw_results_say(results):
    tables = results.read_manifest(ROOT / "benchmarks/results/manifest.yaml")
    for path, text in results.make_pages(tables).items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: make results"
