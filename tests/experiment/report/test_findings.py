"""Records in the order of the report, and slices over seeds."""

from __future__ import annotations

import pytest

from recbole_llmkt.experiment.report.findings import Findings, slice_cells, sorted_records
from recbole_llmkt.utils.exceptions import DataError
from tests.experiment.fake_runs import as_record


def run(model, arm, seed, **changes):
    return as_record({"model": model, "arm": arm, "seed": seed, "status": "ok", **changes})


def part(name, bounds, users, value, slice_name="history"):
    return {
        "slice": slice_name,
        "part": name,
        "bounds": bounds,
        "users": users,
        "rows": users,
        "metrics": {"hit@10": value},
    }


def test_records_are_sorted_by_model_arm_and_seed():
    names = [("B", "mine+shuffled", 1), ("B", "kt", 2), ("A", "kt", 1), ("B", "mine", 1)]
    names += [("B", "base", 1), ("B", "kt", 1)]
    ordered = [record.name for record in sorted_records([run(*name) for name in names])]
    # Models in the order of the file, base first, a control behind its arm.
    assert ordered == [
        "B-base-1",
        "B-kt-1",
        "B-kt-2",
        "B-mine-1",
        "B-mine+shuffled-1",
        "A-kt-1",
    ]


def test_quartiles_of_all_seeds_are_one_part_and_other_bounds_are_another():
    records = [
        run("B", "base", 1, slices=[part("q1", "2-5", 10, 0.1)]),
        run("B", "base", 2, slices=[part("q1", "2-6", 20, 0.3)]),
        run("B", "kt", 1, slices=[part("cold", "<5", 4, 0.2, "cold_users")]),
        run("B", "kt", 2, slices=[part("cold", "<9", 8, 0.4, "cold_users")]),
    ]
    quartile, five, nine = slice_cells(records, [])
    assert (quartile.part, quartile.bounds, quartile.users) == ("q1", "2-5", 15.0)
    (cell,) = quartile.cells
    assert (cell.value.n, cell.value.mean) == (2, pytest.approx(0.2))
    assert [(cells.bounds, cells.users) for cells in (five, nine)] == [("<5", 4.0), ("<9", 8.0)]


def test_a_folder_without_results_names_the_command(tmp_path):
    with pytest.raises(DataError, match=r"No results in .*`llmkt compare --output="):
        Findings.read(tmp_path)
