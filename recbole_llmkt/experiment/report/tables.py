"""The tables of a comparison: numbers as text, rows, verdicts and warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click
from tabulate import SEPARATING_LINE, tabulate

from recbole_llmkt.experiment.report.findings import Findings
from recbole_llmkt.experiment.report.statistics import Cell, Estimate
from recbole_llmkt.experiment.runs.consistency import profile_uses
from recbole_llmkt.experiment.runs.records import RunRecord, of_arm
from recbole_llmkt.utils.text import one_line

FEW_SEEDS = 5
STAR_NOTE = (
    "*: proven to differ from base - Wilcoxon's and the t-test over users (p < 0.05 after Holm's "
    "correction) and the 95% interval over seeds agree."
)


@dataclass(frozen=True)
class Row:
    """One line of the table: an arm of a model.

    Attributes
    ----------
    model, arm : str
        Names.
    cells : sequence of Cell or None
        A cell for each of :func:`metric_names`.
    best : sequence of bool
        Whether the arm is the model's best by that metric.
    seconds : float
        Mean time of a run.
    """

    model: str
    arm: str
    cells: Sequence[Cell | None]
    best: Sequence[bool]
    seconds: float


def metric_names(cells: Sequence[Cell]) -> list[str]:
    """Return the metrics in their order."""
    return list(dict.fromkeys(cell.metric for cell in cells))


def metric_heads(cells: Sequence[Cell]) -> list[str]:
    """Return a heading for each metric as in the pictures; an arrow: lower is better."""
    smaller = {cell.metric for cell in cells if cell.smaller}
    return [name.upper() + " ↓" * (name in smaller) for name in metric_names(cells)]


def table_rows(records: Sequence[RunRecord], cells: Sequence[Cell]) -> list[Row]:
    """Arrange cells in rows, in their order."""
    metrics = metric_names(cells)
    by_name = {(cell.model, cell.arm, cell.metric): cell for cell in cells}
    rows = []
    for model, arm in dict.fromkeys((cell.model, cell.arm) for cell in cells):
        own = [by_name.get((model, arm, metric)) for metric in metrics]
        best = [cell is not None and cell == _best(cells, cell) for cell in own]
        times = [record.seconds for record in of_arm(records, model, arm)]
        rows.append(Row(model, arm, own, best, sum(times) / max(1, len(times))))
    return rows


def _best(cells: Sequence[Cell], cell: Cell) -> Cell:
    rivals = [rival for rival in cells if (rival.model, rival.metric) == (cell.model, cell.metric)]
    return max(rivals, key=lambda rival: (-1 if rival.smaller else 1) * rival.value.mean)


def terminal_table(findings: Findings) -> str:
    """Return the table as text, with verdicts and warnings below it."""
    lines: list[list[str]] = []
    model = ""
    for row in table_rows(findings.good, findings.cells):
        if lines and row.model != model:
            lines.append(SEPARATING_LINE)
        texts = [_cell_text(findings, cell, best) for cell, best in zip(row.cells, row.best)]
        shown = one_line(row.model) if row.model != model else ""
        lines.append([shown, one_line(row.arm), *texts, f"{row.seconds:.0f}"])
        model = row.model
    headers = ["model", "arm", *map(one_line, metric_heads(findings.cells)), "s/run"]
    text = [tabulate(lines, headers, disable_numparse=True), ""] if lines else []
    red = [click.style(one_line(line), fg="red") for line in doubts(findings.records)]
    return "\n".join([*text, *map(one_line, verdict_lines(findings)), notes(findings), *red])


def _cell_text(findings: Findings, cell: Cell | None, best: bool) -> str:
    if cell is None:
        return ""
    text = f"{value_text(cell.value)} {gain_text(cell.gain) + star(findings, cell):>7}"
    return click.style(text, bold=True) if best else text


# ---- figures as text --------------------------------------------------------------------------


def star(findings: Findings, cell: Cell) -> str:
    """Return a star for a difference from base that the tests prove, or nothing."""
    return "*" if findings.proven(cell) else ""


def value_text(value: Estimate) -> str:
    """Format a metric: ``0.1534 ± 0.0012``, or without a deviation for one seed."""
    return f"{value.mean:.4f}" + (f" ± {value.sd:.4f}" if value.sd is not None else "")


def exact_text(cell: Cell) -> str:
    """Format a metric to six digits, as a page shows it to a pointer."""
    value = f"{cell.value.mean:.6f}"
    if cell.value.sd is not None:
        value += f" ± {cell.value.sd:.6f} over {cell.value.n} seeds"
    if cell.gain is None:
        return value
    return f"{value}; gain {cell.gain.mean:+.3f}%, {cell.won} of {cell.gain.n} seeds better"


def named_text(cell: Cell) -> str:
    """Format a metric to six digits, with its name and whose it is."""
    return f"{cell.model} {cell.arm}, {cell.metric.upper()}: {exact_text(cell)}"


def gain_text(gain: Estimate | None) -> str:
    """Format a gain: ``+2.1%``, or nothing."""
    return f"{round(gain.mean, 1) + 0.0:+.1f}%" if gain is not None else ""  # never -0.0


def interval_text(gain: Estimate | None) -> str:
    """Format the 95% interval of a gain: ``-0.3% to +4.5%``, or nothing."""
    if gain is None or gain.low is None:
        return ""
    return f"{gain.low:+.1f}% to {gain.high:+.1f}%"


# ---- sentences --------------------------------------------------------------------------------


def title(findings: Findings) -> str:
    """Return the report's heading."""
    return f"Knowledge transfer on {', '.join(findings.unique('dataset'))}"


def verdict_lines(findings: Findings) -> list[str]:
    """Return a sentence for each arm with real knowledge: its gain, and whether it is proven."""
    gains = {(cell.model, cell.arm, cell.metric): cell for cell in findings.cells}
    lines = []
    for verdict in findings.verdicts:
        cell = gains.get((verdict.model, verdict.arm, verdict.metric))
        gain = gain_text(cell.gain) if cell is not None else ""
        line = f"{verdict.model}, {verdict.arm}, {verdict.metric.upper()} {gain}".rstrip()
        lines.append(f"{line} - {verdict.outcome}: {verdict.reason}.")
    return lines


def notes(findings: Findings) -> str:
    """Return a note on what the figures are and how reliable they are."""
    counts = sorted({cell.value.n for cell in findings.cells}) or [0]
    count = counts[0]
    seeds = f"{count} seed{'s' * (count > 1)}" + (f" to {counts[-1]}" if counts[1:] else "")
    text = f"Test metrics, mean ± standard deviation over {seeds}; gain over base, paired by seed."
    if any(cell.smaller for cell in findings.cells):
        text += " ↓: lower is better, and a gain is a decrease."
    if any(pair.proven for pair in findings.pairs):
        text += f" {STAR_NOTE}"
    if count < FEW_SEEDS:
        text += " So few seeds give hints, not proof: --seeds=1,2,3,4,5 tells more."
    return text


def environment(findings: Findings) -> str:
    """Return a sentence on the software of the runs, and how long they took."""
    used = {
        f"{name} {version}"
        for record in findings.records
        for name, version in record.versions.items()
    }
    minutes = sum(record.seconds for record in findings.records) / 60
    runs = f"{len(findings.records)} runs, {minutes:.1f} minutes of training and testing in total"
    return f"{runs}; {', '.join(sorted(used))}." if used else f"{runs}."


def doubts(records: Sequence[RunRecord]) -> list[str]:
    """Return warnings about leaks, unequal tuning, arms that fell back and failed runs."""
    lines = []
    leaking = [record.name for record in records if leaks(record)]
    if leaking:
        lines.append(
            "profile_allow_leak is on: profiles may have seen validation or test interactions, so "
            f"these figures are not evidence: {', '.join(leaking)}."
        )
    unequal = _tuned_unequally(records)
    if unequal:
        lines.append(
            f"The arms of {', '.join(sorted(unequal))} were tuned with different numbers of "
            "trials, or of runs in the final round, so the comparison is not fair."
        )
    partly = sorted(_tuned_in_part(records) - unequal)
    if partly:
        lines.append(
            f"Some arms of {', '.join(partly)} were tuned and others were not, so the comparison "
            "is not fair."
        )
    lines += [
        f"{arm} of {model} fell back to base: it is not better in validation by a standard error."
        for model, arm in _fell_back(records)
    ]
    return lines + [f"{record.name} failed: {record.error}" for record in records if not record.ok]


def _fell_back(records: Sequence[RunRecord]) -> list[tuple[str, str]]:
    """Return models and arms that run as base."""
    names = ((record.model, record.arm) for record in records if _is_base(record))
    return list(dict.fromkeys(names))


def _is_base(record: RunRecord) -> bool:
    return record.tuned is not None and record.tuned.fell_back


def _tuned_unequally(records: Sequence[RunRecord]) -> set[str]:
    """Return the models whose arms had different tuning budgets, in whichever command."""
    budgets: dict[str, set[tuple[int, ...]]] = {}
    unequal = set()
    for record in records:
        if record.tuned is not None:
            budgets.setdefault(record.model, set()).add(record.tuned.budget)
            unequal |= {record.model} if record.tuned.unequal else set()
    return unequal | {model for model, counts in budgets.items() if len(counts) > 1}


def _tuned_in_part(records: Sequence[RunRecord]) -> set[str]:
    kinds = {(record.model, record.tuned is not None) for record in records}
    return {model for model, tuned in kinds if tuned and (model, False) in kinds}


def leaks(record: RunRecord) -> bool:
    """Return whether a run was allowed to use profiles of another training split."""
    leaking = (record.transfer or {}).get("leaks")
    return bool(leaking or record.settings.get("profile_allow_leak"))


TESTS_HEAD = (
    *("model", "arm", "against", "metric", "users", "difference"),
    *("Wilcoxon p", "t-test p", "p after Holm", "seeds", "95% over seeds", "proven"),
)
SLICES_HEAD = ("part", "users", "model", "arm", "metric", "value", "gain")
PROFILES_HEAD = ("model", "arm", "entity", "profiles", "coverage", "written by", "encoded by")
TUNING_HEAD = ("model", "arm", "trials", "failed", "best trial", "by validation", "keys", "space")
_PROVEN = {1: "better", -1: "worse", 0: "no"}


def tests_rows(findings: Findings) -> list[list[str]]:
    """Return a row of :data:`TESTS_HEAD` for each pair of arms."""
    rows = []
    for pair in findings.pairs:
        names = [pair.model, pair.arm, pair.rival, pair.metric.upper(), str(pair.users)]
        tests = [p_text(p) for p in (pair.wilcoxon, pair.ttest, pair.holm)]
        seeds, count = "", "0"
        if pair.seeds is not None:
            count = str(pair.seeds.n)
            if pair.seeds.low is not None:
                seeds = f"{pair.seeds.low:+.4f} to {pair.seeds.high:+.4f}"
        difference = f"{pair.difference:+.4f}" if pair.users else ""
        rows.append([*names, difference, *tests, count, seeds, _PROVEN[pair.proven]])
    return rows


def p_text(p: float) -> str:
    """Format a p-value: ``0.032``, ``< 0.001``, or nothing if there was no test."""
    if p != p:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def slices_rows(findings: Findings) -> list[list[str]]:
    """Return a row of :data:`SLICES_HEAD` for each part, model and arm, by the primary metric."""
    return [
        [
            f"{part.part} ({part.bounds})",
            f"{part.users:.0f}",
            cell.model,
            cell.arm,
            cell.metric.upper(),
            value_text(cell.value),
            gain_text(cell.gain),
        ]
        for part in findings.slices
        for cell in part.cells
        if cell.metric == findings.primary(cell.model)
    ]


def profiles_rows(findings: Findings) -> list[list[str]]:
    """Return a row of :data:`PROFILES_HEAD` for each kind of profile that an arm used."""
    rows = []
    for record in findings.good:
        for _, term in profile_uses(record):
            row = [
                record.model,
                record.arm,
                term.get("entity", ""),
                str(term.get("profiles", "")),
                f"{100 * term['coverage']:.1f}%" if "coverage" in term else "",
                str(term.get("generator", "")),
                str(term.get("encoder", "")),
            ]
            if row not in rows:
                rows.append(row)
    return rows


def tuning_rows(findings: Findings) -> list[list[str]]:
    """Return a row of :data:`TUNING_HEAD` for each arm whose keys `llmkt tune` chose."""
    rows = []
    for record in findings.records:
        tuned = record.tuned
        if tuned is not None:
            keys = ", ".join(f"{key}: {_short(value)}" for key, value in tuned.keys.items())
            numbers = [str(number) for number in (tuned.trials, tuned.failed, tuned.trial)]
            last = tuned.seed + tuned.seeds - 1
            seeds = f"seed {last}" if last == tuned.seed else f"seeds {tuned.seed} to {last}"
            score = f"{tuned.metric} {tuned.score:.4f} ({seeds})"
            if tuned.fell_back:
                keys = f"fell back to base, not being better in validation: {keys}"
            row = [record.model, record.arm, *numbers, score, keys or "as given", tuned.space]
            if row not in rows:
                rows.append(row)
    return rows


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else _text(value)


def shared_settings(records: Sequence[RunRecord]) -> list[tuple[str, str]]:
    """List the keys that have one value in all runs that use them."""
    return sorted((key, texts.pop()) for key, texts in _values(records).items() if len(texts) == 1)


@dataclass(frozen=True)
class SettingRow:
    """A key of a model with its value, as text, in each arm that uses it."""

    model: str
    key: str
    texts: Mapping[str, str]


def own_settings(records: Sequence[RunRecord]) -> list[SettingRow]:
    """List, by model, the keys that are not the same everywhere, with each arm's value."""
    shared = {key for key, _ in shared_settings(records)} | {"seed", "model"}
    rows = []
    for model in dict.fromkeys(record.model for record in records):
        arms = {record.arm: record.settings for record in records if record.model == model}
        for key in sorted({key for settings in arms.values() for key in settings} - shared):
            texts = {arm: _text(values[key]) for arm, values in arms.items() if key in values}
            rows.append(SettingRow(model, key, texts))
    return rows


def _values(records: Sequence[RunRecord]) -> dict[str, set[str]]:
    """Return the values that each key has in these runs."""
    values: dict[str, set[str]] = {}
    for record in records:
        for key, value in record.settings.items():
            values.setdefault(key, set()).add(_text(value))
    return values


def _text(value: object) -> str:
    return "~" if value is None else str(value)
