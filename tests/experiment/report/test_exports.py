"""CSV and Markdown of a comparison, from figures that are computed by hand."""

from __future__ import annotations

import csv
import io

from recbole_llmkt.experiment.report import exports
from recbole_llmkt.experiment.report.findings import Findings, slice_cells
from recbole_llmkt.experiment.report.significance import compare_arms, verdicts
from recbole_llmkt.experiment.report.statistics import summarise
from tests.experiment.fake_runs import as_record


def findings_of(*records):
    good = [record for record in records if record.ok]
    pairs = compare_arms(good, {}, [])
    return Findings(
        records, good, summarise(good, []), pairs, verdicts(good, pairs), slice_cells(good, []), []
    )


def run(arm, seed, value, **changes):
    values = {"model": "B|PR", "arm": arm, "seed": seed, "status": "ok", "test": {"hit@10": value}}
    part = {"slice": "cold_users", "part": "cold", "bounds": "up to 5", "users": 3, "rows": 4}
    slices = [{**part, "metrics": {"hit@10": value / 2}}]
    return as_record({**values, "slices": slices, **changes})


FINDINGS = findings_of(
    run("base", 1, 0.1), run("base", 2, 0.2), run("kt", 1, 0.11), run("kt", 2, 0.24)
)


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_the_summary_has_means_and_gains_paired_by_seed():
    base, kt = rows(exports.summary_csv(FINDINGS))
    assert (base["mean"], base["seeds"], base["seeds_won"]) == ("0.150000", "2", "")
    assert base["gain_percent_mean"] == ""
    assert kt["mean"] == "0.175000"
    # The paired gains are 10% and 20%, or of the means 0.025 / 0.15: 16.7%.
    assert kt["gain_percent_mean"] in ("15.000", "16.667")
    assert kt["seeds_won"] == "2"


def test_slices_have_the_columns_of_the_summary_behind_their_own():
    base, kt = rows(exports.slices_csv(FINDINGS))
    names = {"slice": "cold_users", "part": "cold", "bounds": "up to 5", "users": "3"}
    assert {key: kt[key] for key in names} == names
    assert (base["mean"], kt["mean"]) == ("0.075000", "0.087500")


def test_pairs_without_users_have_no_p_values():
    pairs = rows(exports.tests_csv(FINDINGS))
    assert all(pair["wilcoxon_p"] == pair["holm_p"] == "" for pair in pairs)
    assert {(pair["arm"], pair["rival"]) for pair in pairs} <= {("kt", "base")}


def test_cells_of_markdown_are_escaped_and_failures_told():
    failed = as_record(
        {"model": "B|PR", "arm": "kt", "seed": 3, "status": "failed", "error": "a | b"}
    )
    text = exports.report_markdown(findings_of(*FINDINGS.records, failed))
    assert text.startswith("# Knowledge transfer on ml")
    assert "failed: a \\| b" in text or "failed: a &#124; b" in text
    summary = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in summary[:4]}) == 1


def test_the_latex_table_escapes_and_marks_the_best():
    lines = exports.summary_latex(FINDINGS).splitlines()
    assert all(line.startswith("% ") for line in lines[:3])
    assert "mean ± standard deviation over 2 seeds" in lines[1] and "--seeds=1,2" in lines[1]
    assert lines[3] == r"\begin{tabular}{lll}"
    assert lines[4:] == [
        r"\toprule",
        r"Model & Arm & HIT@10 \\",
        r"\midrule",
        r"B\textbar{}PR & base & 0.1500 $\pm$ 0.0707 \\",
        rf" & kt & \textbf{{0.1750 $\pm$ 0.0919}} ({gain()}) \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    worse = findings_of(run("base", 1, 0.2), run("kt", 1, 0.1))
    assert r"0.1000 ($-$50.0\%) \\" in exports.summary_latex(worse)
    evil = findings_of(run("a_b&%\\input{x}", 1, 0.1), run("base", 1, 0.1))
    (line,) = (line for line in exports.summary_latex(evil).splitlines() if "input" in line)
    assert r"a\_b\&\%\textbackslash{}input\{x\} & " in line
    option = exports.summary_latex(findings_of(run("base", 1, 0.1, model="[2em] x")))
    assert "\\midrule\n{[}2em] x & base" in option  # not the width of the rule
    heads = exports.summary_latex(findings_of(run("base", 1, 0.1, test={"a_b@5%": 0.1})))
    assert r"Model & Arm & A\_B@5\% \\" in heads


def gain():
    """Return the gain of the arm kt as LaTeX shows it."""
    (cell,) = (cell for cell in FINDINGS.cells if cell.arm == "kt")
    return f"{cell.gain.mean:+.1f}\\%"


def test_names_are_no_formulas():
    evil = findings_of(run("=1+1", 1, 0.1, model="@x"), run("base", 1, 0.1, model="@x"))
    for text in (exports.summary_csv(evil), exports.slices_csv(evil)):
        assert {(row["model"], row["arm"]) for row in rows(text)} == {
            ("'@x", "'=1+1"),
            ("'@x", "base"),
        }
