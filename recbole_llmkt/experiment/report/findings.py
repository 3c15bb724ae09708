"""All that a comparison found, read once, for every form of its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_llmkt.evaluation.slices import HISTORY
from recbole_llmkt.experiment.report.embedding_map import EmbeddingMap, read_maps
from recbole_llmkt.experiment.report.significance import (
    Pair,
    Verdict,
    compare_arms,
    load_users,
    primary_metric,
    verdicts,
)
from recbole_llmkt.experiment.report.statistics import BASE, Cell, summarise
from recbole_llmkt.experiment.runs.arms import in_order
from recbole_llmkt.experiment.runs.results import FILE_NAME, Record, read_results
from recbole_llmkt.utils.exceptions import DataError


@dataclass(frozen=True)
class SliceCells:
    """The figures of one part of a slice.

    Attributes
    ----------
    name, part : str
        ``"history"``, ``"cold_users"`` or ``"tail_items"``, and the part's name.
    bounds : str
        What bounds the part, in the first run that has it.
    users : float
        Mean number of users over its runs.
    cells : sequence of Cell
        As of the whole test part.
    """

    name: str
    part: str
    bounds: str
    users: float
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Findings:
    """A comparison's records and what they amount to.

    Attributes
    ----------
    records, good : sequence of dict
        All records by model, arm (base first) and seed; those of the runs that ended well.
    cells : sequence of Cell
        Means over seeds of the test metrics, and gains.
    pairs, verdicts : sequence of Pair, of Verdict
        Tests, and what they allow to say.
    slices : sequence of SliceCells
        Parts of users and items.
    maps : sequence of EmbeddingMap
        Of the profiles; empty if there were none.
    """

    records: Sequence[Record]
    good: Sequence[Record]
    cells: Sequence[Cell]
    pairs: Sequence[Pair]
    verdicts: Sequence[Verdict]
    slices: Sequence[SliceCells]
    maps: Sequence[EmbeddingMap]

    @classmethod
    def read(cls, folder: Path) -> Findings:
        """Read a comparison's folder.

        Raises
        ------
        DataError
            There are no results in it, or a file cannot be read.
        """
        from recbole.evaluator import smaller_metrics

        records = sorted_records(read_results(folder / FILE_NAME))
        if not records:
            raise DataError(
                f"No results in '{folder}': `llmkt compare --output={folder} ...` makes them."
            )
        good = [record for record in records if record["status"] == "ok"]
        pairs = compare_arms(good, load_users(folder, good), smaller_metrics)
        return cls(
            records=records,
            good=good,
            cells=summarise(good, smaller_metrics),
            pairs=pairs,
            verdicts=verdicts(good, pairs),
            slices=slice_cells(good, smaller_metrics),
            maps=read_maps(folder),
        )

    def primary(self, model: str) -> str | None:
        """Return the metric that verdicts on a model are about."""
        return primary_metric(self.good, model)

    def proven(self, cell: Cell) -> bool:
        """Tell whether a cell's difference to base is proven: only then it gets a star."""
        return any(
            pair.proven and (pair.model, pair.arm, pair.rival, pair.metric) == wanted
            for wanted in [(cell.model, cell.arm, BASE, cell.metric)]
            for pair in self.pairs
        )

    def unique(self, name: str) -> list[str]:
        """Return the values of a field of the records, in their order."""
        return _unique(self.records, name)


def _unique(records: Sequence[Record], name: str) -> list[str]:
    return list(dict.fromkeys(str(record[name]) for record in records))


def sorted_records(records: Sequence[Record]) -> list[Record]:
    """Sort by model, arm and seed, which end in any order; a control comes behind its arm."""
    models, arms = _unique(records, "model"), in_order(_unique(records, "arm"))
    return sorted(
        records, key=lambda r: (models.index(r["model"]), arms.index(r["arm"]), r["seed"])
    )


def slice_cells(records: Sequence[Record], smaller: Sequence[str]) -> list[SliceCells]:
    """Return each part of each slice that the runs measured, with its cells.

    Parameters
    ----------
    records : sequence of dict
        Records of the runs that ended well.
    smaller : sequence of str
        Names of metrics of which a smaller value is better.
    """
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for record in records:
        for one in record.get("slices") or []:
            entry = {**record, "test": one["metrics"], "users": one["users"]}
            # Quartiles have bounds that depend on the seed; those of the others are a definition.
            definition = "" if one["slice"] == HISTORY else one["bounds"]
            found.setdefault((one["slice"], one["part"], definition), []).append(
                {**entry, "bounds": one["bounds"]}
            )
    return [
        SliceCells(
            name,
            part,
            entries[0]["bounds"],
            sum(entry["users"] for entry in entries) / len(entries),
            summarise(entries, smaller),
        )
        for (name, part, _), entries in found.items()
    ]
