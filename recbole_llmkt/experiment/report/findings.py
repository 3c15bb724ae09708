"""All results of a comparison, read once, for every form of its report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
from recbole_llmkt.experiment.runs.records import RunRecord, SlicePart
from recbole_llmkt.experiment.runs.results import FILE_NAME, read_results
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
    """A comparison's records and the statistics over them.

    Attributes
    ----------
    records, good : sequence of RunRecord
        All records by model, arm (base first) and seed; those of the runs that succeeded.
    cells : sequence of Cell
        Means over seeds of the test metrics, and gains.
    pairs, verdicts : sequence of Pair, of Verdict
        Tests, and the verdicts that they allow.
    slices : sequence of SliceCells
        Parts of users and items.
    maps : sequence of EmbeddingMap
        Of the profiles; empty if there were none.
    """

    records: Sequence[RunRecord]
    good: Sequence[RunRecord]
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

        records = read_records(folder)
        good = [record for record in records if record.ok]
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
        """Return whether a cell's difference from base is proven; only then it gets a star."""
        wanted = (cell.model, cell.arm, BASE, cell.metric)
        return any(
            pair.proven and (pair.model, pair.arm, pair.rival, pair.metric) == wanted
            for pair in self.pairs
        )

    def unique(self, name: str) -> list[str]:
        """Return the values of an attribute of the records, in their order."""
        return _unique(self.records, name)


def _unique(records: Sequence[RunRecord], name: str) -> list[str]:
    return list(dict.fromkeys(str(getattr(record, name)) for record in records))


def read_records(folder: Path) -> list[RunRecord]:
    """Return the records in a comparison's folder, by model, arm and seed.

    Raises
    ------
    DataError
        There are none, or they cannot be read.
    """
    records = sorted_records(read_results(folder / FILE_NAME))
    if not records:
        raise DataError(
            f"No results in '{folder}': `llmkt compare --output={folder} ...` creates them."
        )
    return records


def sorted_records(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Sort records, which come in any order, by model, arm and seed; controls follow their arm."""
    models, arms = _unique(records, "model"), in_order(_unique(records, "arm"))
    return sorted(
        records,
        key=lambda record: (models.index(record.model), arms.index(record.arm), record.seed),
    )


def slice_cells(records: Sequence[RunRecord], smaller: Sequence[str]) -> list[SliceCells]:
    """Return each part of each slice that the runs measured, with its cells.

    Parameters
    ----------
    records : sequence of RunRecord
        The runs that succeeded.
    smaller : sequence of str
        Names of metrics of which a smaller value is better.
    """
    measured: dict[tuple[str, ...], list[tuple[RunRecord, SlicePart]]] = defaultdict(list)
    for record in records:
        for part in record.slices:
            # Quartiles have bounds that depend on the seed; those of the others are a definition.
            definition = "" if part.slice == HISTORY else part.bounds
            measured[part.slice, part.part, definition].append((record, part))
    return [
        SliceCells(
            name,
            part_name,
            entries[0][1].bounds,
            sum(part.users for _, part in entries) / len(entries),
            summarise([replace(record, test=part.metrics) for record, part in entries], smaller),
        )
        for (name, part_name, _), entries in measured.items()
    ]
