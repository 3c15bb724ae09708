"""Make the tables of the documents from the raw results under benchmarks/results.

python benchmarks/results.py [--check] [--run] [TABLE ...]
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from recbole.evaluator import smaller_metrics
from tabulate import tabulate

from recbole_llmkt.exceptions import ConfigError, DataError, LLMKTError, nearest
from recbole_llmkt.experiment.arms import control_of
from recbole_llmkt.experiment.evidence_plots import forest_figure
from recbole_llmkt.experiment.findings import Findings, slice_cells, sorted_records
from recbole_llmkt.experiment.plots import save_png
from recbole_llmkt.experiment.results import Record, read_results
from recbole_llmkt.experiment.significance import Pair, corrected, seed_differences, verdicts
from recbole_llmkt.experiment.statistics import BASE, Cell, summarise
from recbole_llmkt.experiment.tables import (
    gain_text,
    interval_text,
    leaks,
    metric_names,
    value_text,
)
from recbole_llmkt.parsing import load_yaml
from recbole_llmkt.profiles.files import replace_file

ROOT = Path(__file__).resolve().parent.parent
# What a record needs for a table; paths and long curves stay with whoever ran it.
_KEPT = (
    *("model", "arm", "seed", "dataset", "digest", "status", "seconds", "epochs"),
    *("test", "valid", "slices", "tuned", "versions", "error"),
)
_PATHS = ("profile_dir", "profile_encoder", "data_path")
# What is kept of the tests by user; the interval over seeds and Holm's correction are made anew.
_TESTED = ("model", "arm", "rival", "metric", "users", "difference", "wilcoxon", "ttest")
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

    @property
    def path(self) -> Path:
        """Return the file of the raw results."""
        return self.folder / f"{self.name}.jsonl"

    def beside(self, what: str) -> Path:
        """Return the file of what belongs to the results: trials, finals, tests."""
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
        missing = sorted(fields - {"metrics", "layout", "plot", "rival", "slices"} - {*entry})
        if unknown or missing:
            near = nearest(unknown[0], fields) if unknown else ""
            raise ConfigError(f"{path}, {name}: unknown {unknown}, missing {missing}.{near}")
        if entry.get("layout", "rows") not in ("rows", "models"):
            raise ConfigError(f"{path}, {name}: layout is rows or models.")
        tables.append(Table(name, path.parent, **entry))
    return tables


# ---- tables -----------------------------------------------------------------------------------


def markdown(table: Table) -> str:
    """Return a table with its title, data, seeds, trials and command.

    Raises
    ------
    DataError
        There are no results, or none of a metric.
    """
    found = read_findings(table)
    known = metric_names(found.cells)
    metrics = list(table.metrics or known)
    for metric in metrics:
        if metric not in known:
            raise DataError(f"{table.path} has no metric '{metric}'.{nearest(metric, known)}")
    layout = _by_model if table.layout == "models" else _by_row
    lines = [
        f"**{table.title}**",
        "",
        tabulate(list(layout(found, metrics, table.rival)), headers="firstrow", tablefmt="github"),
        "",
        *_slices(found, metrics, table.slices),
        " ".join([_facts(table, found.records), *_means(found, metrics)]),
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
    good = [record for record in records if record["status"] == "ok"]
    pairs = []
    for line in _lines(table.beside("tests")):
        names = (line["model"], line["arm"], line["rival"], line["metric"])
        seeds = seed_differences(good, names, smaller_metrics)
        pairs.append(Pair(**line, holm=float("nan"), seeds=seeds))
    pairs = corrected(pairs)
    cells = summarise(good, smaller_metrics)
    return Findings(
        records, good, cells, pairs, verdicts(good, pairs), slice_cells(good, smaller_metrics), ()
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _by_row(
    found: Findings, metrics: Sequence[str], rival: str | None = None
) -> Iterator[list[str]]:
    """Yield a line for each model and arm."""
    cells = found.cells
    names = [metric.upper() for metric in metrics]
    firsts = {model: _first(cells, model, metrics) for model in {cell.model for cell in cells}}
    gained = " or ".join(dict.fromkeys(firsts[cell.model].upper() for cell in cells))
    heads = [f"{gained} over base", "over its control", f"over {rival}" if rival else None]
    yield ["model", "arm", *names, *filter(None, heads), "verdict", "seconds a run"]
    by_name = {(cell.model, cell.arm, cell.metric): cell for cell in cells}
    for model, arm in dict.fromkeys((cell.model, cell.arm) for cell in cells):
        own = [by_name.get((model, arm, metric)) for metric in metrics]
        times = [r["seconds"] for r in found.good if (r["model"], r["arm"]) == (model, arm)]
        yield [
            model,
            arm,
            *(value_text(cell.value) if cell else "" for cell in own),
            _gain(by_name.get((model, arm, firsts[model]))) + _star(found, model, arm, BASE),
            _gain(over(found.good, model, arm, control_of(arm), firsts[model]))
            + _star(found, model, arm, control_of(arm)),
            *([_over_rival(found, model, arm, rival, firsts[model])] if rival else []),
            _verdict(found, model, arm),
            f"{sum(times) / len(times):.0f}",
        ]


def _star(found: Findings, model: str, arm: str, rival: str) -> str:
    """Return a star where a difference is proven."""
    pairs = [one for one in found.pairs if (one.model, one.arm, one.rival) == (model, arm, rival)]
    return " *" if any(one.proven for one in pairs) else ""


def _over_rival(found: Findings, model: str, arm: str, rival: str, metric: str) -> str:
    """Return the gain over another method's arm, of arms of real knowledge."""
    known = any((one.model, one.arm) == (model, arm) for one in found.verdicts)
    return _gain(over(found.good, model, arm, rival, metric)) if known and arm != rival else ""


def _by_model(
    found: Findings, metrics: Sequence[str], rival: str | None = None
) -> Iterator[list[str]]:
    """Yield a line for each arm that is no control: value, gain over base, over the control."""
    cells = found.cells
    models = list(dict.fromkeys(cell.model for cell in cells))
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    controls = {control_of(arm, how) for arm in arms for how in ("shuffled", "random", "zero")}
    yield ["arm", *models]
    for arm in (arm for arm in arms if arm not in controls):
        row = [arm]
        for model in models:
            first = _first(cells, model, metrics)
            own = [c for c in cells if (c.model, c.arm, c.metric) == (model, arm, first)]
            rival = over(found.good, model, arm, control_of(arm), first)
            outcome = _verdict(found, model, arm)
            known = outcome if outcome in (_OUTCOMES["win"], _OUTCOMES["worse"]) else ""
            row.append(" ".join(filter(None, [_short(own[0], rival), known])) if own else "")
        yield row


def _slices(found: Findings, metrics: Sequence[str], name: str | None) -> Iterator[str]:
    """Yield a table of the first metric in each part of a slice, for base and its rivals."""
    if name is None:
        return
    parts = [part for part in found.slices if part.name == name]
    if not parts:
        raise DataError(f"The results have no slice '{name}'.")
    shown = {BASE, *(one.arm for one in found.verdicts)}
    rows = []
    for model, arm in dict.fromkeys((cell.model, cell.arm) for cell in found.cells):
        first = _first(found.cells, model, metrics)
        if arm in shown:
            own = [_cell(part.cells, model, arm, first) for part in parts]
            rows.append([model, arm, *(_short(cell, None) if cell else "" for cell in own)])
    heads = ["model", "arm", *(f"{part.part} ({part.users:.0f} users)" for part in parts)]
    yield from (tabulate(rows, headers=heads, tablefmt="github", disable_numparse=True), "")


def _cell(cells: Sequence[Cell], *names: str) -> Cell | None:
    return next((cell for cell in cells if (cell.model, cell.arm, cell.metric) == names), None)


def _means(found: Findings, metrics: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each arm of real knowledge that several models have."""
    for arm in dict.fromkeys(one.arm for one in found.verdicts):
        models = [one.model for one in found.verdicts if one.arm == arm]
        gains = []
        for model in models:
            first = _first(found.cells, model, metrics)
            cells = [over(found.good, model, arm, one, first) for one in (BASE, control_of(arm))]
            gains.append([cell.gain.mean for cell in cells if cell and cell.gain])
        if len(models) > 1 and all(len(one) == 2 for one in gains):
            base, control = (sum(one) / len(models) for one in zip(*gains))
            yield (
                f"Mean over {len(models)} models, {arm}: {base:+.1f}% over base, {control:+.1f}% "
                "over its control."
            )


def _verdict(found: Findings, model: str, arm: str) -> str:
    """Say what the tests by user and the seeds prove of an arm; "" of base and controls."""
    for one in found.verdicts:
        if (one.model, one.arm) == (model, arm):
            return _OUTCOMES.get(one.outcome, one.outcome)
    return ""


def _first(cells: Sequence[Cell], model: str, metrics: Sequence[str]) -> str:
    """Return the first of the metrics that a model has: gains are of this one."""
    known = {cell.metric for cell in cells if cell.model == model}
    return next((one for one in metrics if one in known), metrics[0])


def over(records: Sequence[Record], model: str, arm: str, rival: str, metric: str) -> Cell | None:
    """Return an arm's cell with its gain over ``rival``, paired by seed; None without a rival."""
    renamed = [
        {**record, "arm": BASE if record["arm"] == rival else arm}
        for record in records
        if record["model"] == model and record["arm"] in (arm, rival)
    ]
    if len({record["arm"] for record in renamed}) < 2 or arm == BASE:
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


def _facts(table: Table, records: Sequence[Record]) -> str:
    """Say in a sentence or two what the figures rest on."""
    seeds = sorted({record["seed"] for record in records})
    trials = sorted({one["tuned"]["trials"] if one.get("tuned") else 0 for one in records})
    counts = " or ".join(str(count) for count in trials if count)
    tuned = f"{counts} trials for every arm of every model" if counts else "no tuning"
    rounds = {one["tuned"].get("seeds", 1) for one in records if one.get("tuned")}
    if max(rounds, default=1) > 1:
        tuned += f", the best of each again with other seeds, {max(rounds)} in all"
        tuned += " (some models: no second round)" if min(rounds) == 1 else ""
    if counts and not trials[0]:
        tuned += ", and arms that were not tuned"
    text = (
        f"Data: {table.data}. Seeds: {', '.join(map(str, seeds))}. Tuning: {tuned}. Test figures, "
        "mean ± standard deviation over seeds; gains are paired by seed, with their 95% interval "
        "(Student's t). *: proven by user (Wilcoxon and t-test, p < .05 after Holm's correction "
        "over the table) and over seeds; a win is proven over base and over the control. "
        f"Raw results: [{table.path.name}]"
        f"({Path(os.path.relpath(table.path, ROOT / Path(table.page).parent)).as_posix()})."
    )
    if any((one.get("tuned") or {}).get("unequal") for one in records):
        text += " **Arms had different numbers of trials.**"
    if any(leaks(one) for one in records):
        text += " **Profiles may know more than the training part: `profile_allow_leak` is on.**"
    failed = sum(record["status"] != "ok" for record in records)
    return text + (f" **{failed} runs failed.**" if failed else "")


# ---- pages ------------------------------------------------------------------------------------


def insert(text: str, name: str, content: str, page: Path) -> str:
    """Put ``content`` between the markers of table ``name``.

    Raises
    ------
    DataError
        The page has no such markers, or not once each.
    """
    begin, end = f"<!-- table {name} -->", f"<!-- end {name} -->"
    if (text.count(begin), text.count(end)) != (1, 1) or text.index(begin) > text.index(end):
        raise DataError(f"{page} needs the lines '{begin}' and '{end}', in this order, once each.")
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.partition(end)[2]}"


def make_pages(tables: Sequence[Table], root: Path = ROOT) -> dict[Path, str]:
    """Return the pages with their tables made anew, by path."""
    pages: dict[Path, str] = {}
    for table in tables:
        path = root / table.page
        if path not in pages and not path.is_file():
            raise DataError(f"There is no page {path} for the table {table.name}.")
        text = pages.get(path) or path.read_text(encoding="utf-8")
        pages[path] = insert(text, table.name, markdown(table), path)
    return pages


def draw(table: Table, root: Path = ROOT) -> None:
    """Draw a table's gains to its ``plot``, if it has one."""
    figure = forest_figure(read_findings(table)) if table.plot else None
    if figure is not None:
        save_png(figure, root / str(table.plot))


# ---- runs -------------------------------------------------------------------------------------


def run_commands(table: Table, root: Path = ROOT) -> None:
    """Run a table's commands, which go on where they stopped, and keep their records.

    Raises
    ------
    DataError
        A command fails.
    """
    here = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in table.commands:
        click.echo(f"$ {command}")
        done = subprocess.run(shlex.split(command), cwd=root, env=here, check=False)
        if done.returncode:
            raise DataError(f"{table.name}: `{command}` ended with {done.returncode}.")
    collect(table, root)


def collect(table: Table, root: Path = ROOT) -> None:
    """Copy a table's records from its output, and beside them the tuning and the tests by user."""
    folders = sorted(root.glob(table.output))
    keep([folder / "results.jsonl" for folder in folders], table.path)
    for what in ("trials", "finals"):
        files = [folder.parent / "tune" / f"{what}.jsonl" for folder in folders]
        lines = [path.read_bytes() for path in files if path.is_file()]
        if lines:
            replace_file(table.beside(what), b"".join(lines))
    pairs = [vars(pair) for folder in folders for pair in Findings.read(folder).pairs]
    tests = [json.dumps({name: pair[name] for name in _TESTED}) + "\n" for pair in pairs]
    replace_file(table.beside("tests"), "".join(tests).encode())


def keep(sources: Sequence[Path], target: Path) -> None:
    """Copy results without curves and paths, those of several folders one after the other."""
    lines = []
    for record in (record for source in sources for record in read_results(source)):
        kept = {name: record[name] for name in _KEPT if name in record}
        settings = {k: v for k, v in record["settings"].items() if k not in _PATHS}
        lines.append(json.dumps({**kept, "settings": settings}, ensure_ascii=False) + "\n")
    replace_file(target, "".join(lines).encode())


@click.command()
@click.option("--run", is_flag=True, help="Run the commands first; they go on where they stopped.")
@click.option("--check", is_flag=True, help="Write nothing; fail if a page is out of date.")
@click.argument("names", nargs=-1)
def main(run: bool, check: bool, names: tuple[str, ...]) -> None:
    """Make the tables of the documents from the raw results: all of them, or those named."""
    try:
        tables = read_manifest(ROOT / "benchmarks" / "results" / "manifest.yaml")
        known = [table.name for table in tables]
        for name in names:
            if name not in known:
                raise ConfigError(f"No table '{name}' in the manifest.{nearest(name, known)}")
        tables = [table for table in tables if not names or table.name in names]
        for table in tables if run else ():
            run_commands(table)
        for table in tables if not check else ():
            draw(table)
        changed = [
            (path, text)
            for path, text in make_pages(tables).items()
            if text != path.read_text(encoding="utf-8")
        ]
    except LLMKTError as error:
        raise click.ClickException(str(error)) from error
    for path, text in changed:
        if check:
            raise click.ClickException(f"{path} is out of date: make results.")
        replace_file(path, text.encode())
        click.echo(f"{path.relative_to(ROOT)} written")
    click.echo(f"{len(tables)} tables, {len(changed)} pages changed")


if __name__ == "__main__":
    main()
