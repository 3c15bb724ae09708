"""The text of a table of results: rows, verdicts, slices, and how they were obtained."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recbole.evaluator import smaller_metrics
from tabulate import tabulate

from recbole_llmkt.experiment.report.findings import Findings, slice_cells, sorted_records
from recbole_llmkt.experiment.report.significance import Pair, corrected, seed_differences, verdicts
from recbole_llmkt.experiment.report.statistics import BASE, Cell, summarise
from recbole_llmkt.experiment.report.tables import (
    gain_text,
    interval_text,
    leaks,
    metric_names,
    value_text,
)
from recbole_llmkt.experiment.runs.arms import control_of
from recbole_llmkt.experiment.runs.records import Record, RunRecord, of_arm
from recbole_llmkt.experiment.runs.results import read_results
from recbole_llmkt.utils.exceptions import ConfigError, DataError, nearest
from recbole_llmkt.utils.jsonl import read_objects
from recbole_llmkt.utils.parsing import load_yaml

ROOT = Path(__file__).resolve().parent.parent
_OUTCOMES = {"win": "**win**", "worse": "worse than base", "no win": "not proven"}


@dataclass(frozen=True)
class Table:
    """An entry of the manifest, see there; ``folder`` is that of the raw results."""

    name: str
    folder: Path
    page: str
    title: str
    data: str
    commands: Sequence[str]
    output: str
    metrics: Sequence[str] | None = None
    layout: str = "rows"
    plot: str | None = None
    rival: str | None = None
    slices: str | None = None
    datasets: Mapping[str, float] | None = None

    @property
    def path(self) -> Path:
        """Return the file of the raw results."""
        return self.folder / f"{self.name}.jsonl"

    def beside(self, what: str) -> Path:
        """Return a file beside the results: trials, finals, tests."""
        return self.folder / f"{self.name}_{what}.jsonl"


def read_manifest(path: Path) -> list[Table]:
    """Read the manifest's tables.

    Raises
    ------
    ConfigError
        An entry lacks something, or has something unknown.
    """
    fields = {*Table.__dataclass_fields__} - {"name", "folder"}
    tables = []
    for name, entry in load_yaml(path).items():
        if not isinstance(entry, dict):
            raise ConfigError(f"{path}, {name}: must hold 'key: value' lines.")
        unknown = sorted({*entry} - fields)
        missing = sorted(
            fields - {"metrics", "layout", "plot", "rival", "slices", "datasets"} - {*entry}
        )
        if unknown or missing:
            near = nearest(unknown[0], fields) if unknown else ""
            raise ConfigError(f"{path}, {name}: unknown {unknown}, missing {missing}.{near}")
        if entry.get("layout", "rows") not in ("rows", "models"):
            raise ConfigError(f"{path}, {name}: layout is rows or models.")
        tables.append(Table(name, path.parent, **entry))
    return tables


def markdown(table: Table) -> str:
    """Return a table with its title, data, seeds, trials and command.

    Raises
    ------
    DataError
        There are no results, or none of a metric.
    """
    findings = read_findings(table)
    known = metric_names(findings.cells)
    metrics = list(table.metrics or known)
    for metric in metrics:
        if metric not in known:
            raise DataError(f"{table.path} has no metric '{metric}'.{nearest(metric, known)}")
    arms = {cell.arm for cell in findings.cells}
    if table.rival is not None and table.rival not in arms:
        raise DataError(f"{table.path} has no arm '{table.rival}'.{nearest(table.rival, arms)}")
    if table.layout == "models":
        rows = _by_model(findings, metrics)
    else:
        rows = _by_row(findings, metrics, table.rival)
    lines = [
        f"**{table.title}**",
        "",
        tabulate(list(rows), headers="firstrow", tablefmt="github"),
        "",
        *_slices(findings, metrics, table.slices),
        " ".join(
            [
                _facts(table, findings.records),
                *(_mean_sentences(findings, metrics) if table.layout == "rows" else ()),
            ]
        ),
        "",
        "```bash",
        *table.commands,
        "```",
    ]
    return "\n".join(lines)


def read_findings(table: Table) -> Findings:
    """Read a table's raw results and tests, and judge them.

    Raises
    ------
    DataError
        There are no results.
    """
    records = sorted_records(read_results(table.path))
    if not records:
        raise DataError(f"{table.path} holds no results: benchmarks/results.py --run {table.name}.")
    good = [record for record in records if record.ok]
    pairs = []
    for line in read_lines(table.beside("tests")):
        names = (line["model"], line["arm"], line["rival"], line["metric"])
        seeds = seed_differences(good, names, smaller_metrics)
        pairs.append(Pair(**line, holm=float("nan"), seeds=seeds))
    pairs = corrected(pairs)
    shown = [
        replace(record, slices=[part for part in record.slices if part.slice == table.slices])
        for record in good
    ]
    return Findings(
        records=records,
        good=good,
        cells=summarise(good, smaller_metrics),
        pairs=pairs,
        verdicts=verdicts(good, pairs),
        slices=slice_cells(shown, smaller_metrics),
        maps=(),
    )


def read_lines(path: Path) -> list[Record]:
    """Read a file of JSON lines about models; a missing file holds none.

    Raises
    ------
    DataError
        A line cannot be read, or names no model.
    """
    lines = []
    for fields in read_objects(path, "Restore the file."):
        fields.required("model", str)
        lines.append({name: fields.value(name) for name in fields.names()})
    return lines


def _by_row(findings: Findings, metrics: Sequence[str], rival: str | None) -> Iterator[list[str]]:
    """Yield a line for each model and arm."""
    cells = findings.cells
    names = [metric.upper() for metric in metrics]
    firsts = {model: _first(cells, model, metrics) for model in {cell.model for cell in cells}}
    gained = " or ".join(dict.fromkeys(firsts[cell.model].upper() for cell in cells))
    heads = [f"{gained} over base", "over its control", f"over {rival}" if rival else None]
    yield ["model", "arm", *names, *filter(None, heads), "verdict", "seconds a run"]
    by_name = {(cell.model, cell.arm, cell.metric): cell for cell in cells}
    for model, arm in dict.fromkeys((cell.model, cell.arm) for cell in cells):
        own, first = [by_name.get((model, arm, metric)) for metric in metrics], firsts[model]
        times = [record.seconds for record in of_arm(findings.good, model, arm)]
        yield [
            model,
            arm,
            *(value_text(cell.value) if cell else "" for cell in own),
            _gain(by_name.get((model, arm, first))) + _star(findings, model, arm, BASE, first),
            _gain(over(findings.good, model, arm, control_of(arm), first))
            + _star(findings, model, arm, control_of(arm), first),
            *([_over_rival(findings, model, arm, rival, first)] if rival else []),
            _verdict(findings, model, arm),
            f"{sum(times) / len(times):.0f}",
        ]


def _star(findings: Findings, model: str, arm: str, rival: str, metric: str) -> str:
    """Return a star where a difference is proven."""
    wanted = (model, arm, rival, metric)
    pairs = [
        pair for pair in findings.pairs if (pair.model, pair.arm, pair.rival, pair.metric) == wanted
    ]
    return " *" if any(pair.proven for pair in pairs) else ""


def _over_rival(findings: Findings, model: str, arm: str, rival: str, metric: str) -> str:
    """Return the gain over another method's arm, of arms of real knowledge."""
    known = any((verdict.model, verdict.arm) == (model, arm) for verdict in findings.verdicts)
    return _gain(over(findings.good, model, arm, rival, metric)) if known and arm != rival else ""


def _by_model(findings: Findings, metrics: Sequence[str]) -> Iterator[list[str]]:
    """Yield a line for each arm that is no control: value, gain over base, over the control."""
    cells = findings.cells
    models = list(dict.fromkeys(cell.model for cell in cells))
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    controls = {control_of(arm, how) for arm in arms for how in ("shuffled", "random", "zero")}
    alike = [model for model in models if _first(cells, model, metrics) == metrics[0]]
    means = {arm: _mean_gains(findings, arm, alike, metrics) for arm in arms}
    shown = len(alike) > 1
    yield ["arm", *models, *([f"mean of {len(alike)} by {metrics[0].upper()}"] if shown else [])]
    for arm in (arm for arm in arms if arm not in controls):
        row = [arm]
        for model in models:
            first = _first(cells, model, metrics)
            own = [c for c in cells if (c.model, c.arm, c.metric) == (model, arm, first)]
            control = over(findings.good, model, arm, control_of(arm), first)
            outcome = _verdict(findings, model, arm)
            known = outcome if outcome in (_OUTCOMES["win"], _OUTCOMES["worse"]) else ""
            row.append(" ".join(filter(None, [_short(own[0], control), known])) if own else "")
        if shown:
            row.append(
                "{:+.1f}% ({:+.1f}% over its control)".format(*m) if (m := means[arm]) else ""
            )
        yield row


def _slices(findings: Findings, metrics: Sequence[str], name: str | None) -> Iterator[str]:
    """Yield a table of the first metric in each part of a slice, for base and its rivals."""
    if name is None:
        return
    parts = [part for part in findings.slices if part.name == name]
    if not parts:
        raise DataError(f"The results have no slice '{name}'.")
    shown = {BASE, *(verdict.arm for verdict in findings.verdicts)}
    rows = []
    for model, arm in dict.fromkeys((cell.model, cell.arm) for cell in findings.cells):
        first = _first(findings.cells, model, metrics)
        if arm in shown:
            own = [_cell(part.cells, model, arm, first) for part in parts]
            rows.append([model, arm, *(_short(cell, None) if cell else "" for cell in own)])
    heads = ["model", "arm", *(f"{part.part} ({part.users:.0f} users)" for part in parts)]
    yield from (tabulate(rows, headers=heads, tablefmt="github", disable_numparse=True), "")


def _cell(cells: Sequence[Cell], *names: str) -> Cell | None:
    return next((cell for cell in cells if (cell.model, cell.arm, cell.metric) == names), None)


def _mean_sentences(findings: Findings, metrics: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each arm of real knowledge and metric that several models have."""
    firsts = {
        verdict.model: _first(findings.cells, verdict.model, metrics)
        for verdict in findings.verdicts
    }
    several = len({*firsts.values()}) > 1
    for arm, metric in dict.fromkeys(
        (verdict.arm, firsts[verdict.model]) for verdict in findings.verdicts
    ):
        models = [verdict.model for verdict in findings.verdicts if verdict.arm == arm]
        models = [model for model in models if firsts[model] == metric]
        means = _mean_gains(findings, arm, models, metrics)
        if len(models) > 1 and means:
            yield (
                f"Mean over {len(models)} models{f' by {metric.upper()}' if several else ''}, "
                f"{arm}: {means[0]:+.1f}% over base, {means[1]:+.1f}% over its control."
            )


def _mean_gains(
    findings: Findings, arm: str, models: Sequence[str], metrics: Sequence[str]
) -> tuple[float, float] | None:
    """Return an arm's mean gains in percent over base and over its control, if all models do."""
    gains = []
    for model in models:
        first = _first(findings.cells, model, metrics)
        cells = [over(findings.good, model, arm, other, first) for other in (BASE, control_of(arm))]
        known = [cell.gain.mean for cell in cells if cell and cell.gain]
        if len(known) < 2:
            return None
        gains.append(known)
    if not gains:
        return None
    base, control = (sum(column) / len(models) for column in zip(*gains))
    return base, control


def _verdict(findings: Findings, model: str, arm: str) -> str:
    """Say what the tests by user and the seeds prove of an arm; "" of base and controls."""
    for verdict in findings.verdicts:
        if (verdict.model, verdict.arm) == (model, arm):
            return _OUTCOMES.get(verdict.outcome, verdict.outcome)
    return ""


def _first(cells: Sequence[Cell], model: str, metrics: Sequence[str]) -> str:
    """Return the first of the metrics that a model has: gains are of this one."""
    known = {cell.metric for cell in cells if cell.model == model}
    shown = [name for name in metrics if name in known]
    if not shown:
        raise DataError(f"{model} has none of the table's metrics; it has {', '.join(known)}.")
    return shown[0]


def over(
    records: Sequence[RunRecord], model: str, arm: str, rival: str, metric: str
) -> Cell | None:
    """Return an arm's cell with its gain over ``rival``, paired by seed; None without a rival."""
    renamed = [
        replace(record, arm=BASE if record.arm == rival else arm)
        for record in records
        if record.model == model and record.arm in (arm, rival)
    ]
    if len({record.arm for record in renamed}) < 2 or arm == BASE:
        return None
    cells = summarise(renamed, smaller_metrics)
    return next((c for c in cells if (c.arm, c.metric) == (arm, metric)), None)


def _gain(cell: Cell | None) -> str:
    if cell is None or cell.gain is None:
        return ""
    interval = interval_text(cell.gain)
    return gain_text(cell.gain) + (f" ({interval})" if interval else "")


def _short(cell: Cell, control: Cell | None) -> str:
    text = f"{cell.value.mean:.4f}"
    if cell.gain is not None:
        text += f" {gain_text(cell.gain)}"
    if control is not None:
        text += f" ({gain_text(control.gain)} over its control)"
    return text


_PROVEN = (
    "by user (Wilcoxon and t-test, p < .05 after Holm's correction over the table) and over seeds"
)
_LEGENDS = {
    "rows": (
        "Test figures, mean ± standard deviation over seeds; gains are paired by seed, with their "
        f"95% interval (Student's t). *: proven {_PROVEN}."
    ),
    "models": (
        "Mean test figures over seeds; gains are paired by seed. Only differences stated in words "
        f"are proven, {_PROVEN}."
    ),
}


def _facts(table: Table, records: Sequence[RunRecord]) -> str:
    """Return a sentence or two on how the figures were obtained."""
    seeds = sorted({record.seed for record in records})
    trials = sorted({record.tuned.trials if record.tuned else 0 for record in records})
    counts = " or ".join(str(count) for count in trials if count)
    tuned = f"{counts} trials for every arm of every model" if counts else "no tuning"
    rounds = {record.tuned.seeds for record in records if record.tuned}
    if max(rounds, default=1) > 1:
        tuned += f", the best of each rerun with further seeds, {max(rounds)} in total"
        tuned += " (some models: no final round)" if min(rounds) == 1 else ""
    if counts and not trials[0]:
        tuned += ", and arms that were not tuned"
    text = (
        f"Data: {table.data}. Seeds: {', '.join(map(str, seeds))}. Tuning: {tuned}. "
        f"{_LEGENDS[table.layout]} A win is proven over base and over the control. "
        f"Raw results: [{table.path.name}]"
        f"({Path(os.path.relpath(table.path, ROOT / Path(table.page).parent)).as_posix()})."
    )
    if any(record.tuned is not None and record.tuned.unequal for record in records):
        text += " **Arms were tuned with different budgets.**"
    if any(leaks(run) for run in records):
        text += " **Profiles may know more than the training part: `profile_allow_leak` is on.**"
    failed = sum(not record.ok for record in records)
    return text + (f" **{failed} runs failed.**" if failed else "")
