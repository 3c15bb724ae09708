"""Make the tables of the documents from the raw results under benchmarks/results.

python benchmarks/results.py [--check] [--run] [TABLE ...]
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import click
from results_tables import ROOT, Table, markdown, read_findings, read_lines, read_manifest
from results_worlds import density_figure

from recbole_llmkt.experiment.report.evidence_figures import forest_figure
from recbole_llmkt.experiment.report.figures import save_png
from recbole_llmkt.experiment.report.findings import Findings
from recbole_llmkt.experiment.runs.records import Record, RunRecord
from recbole_llmkt.experiment.runs.results import read_results
from recbole_llmkt.utils.exceptions import ConfigError, DataError, LLMKTError, nearest
from recbole_llmkt.utils.files import replace_file
from recbole_llmkt.utils.jsonl import encoded_line

# What a record needs for a table; paths and long curves stay with whoever ran it.
_KEPT = (
    *("model", "arm", "seed", "dataset", "digest", "status", "seconds", "epochs"),
    *("test", "valid", "slices", "tuned", "versions", "error"),
)
_PATHS = ("profile_dir", "profile_encoder", "data_path")
# What is kept of the tests by user; the interval over seeds and Holm's correction are made anew.
_TESTED = ("model", "arm", "rival", "metric", "users", "difference", "wilcoxon", "ttest")


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
    if not table.plot:
        return
    findings = read_findings(table)
    figure = density_figure(findings, table.datasets) if table.datasets else forest_figure(findings)
    if figure is not None:
        save_png(figure, root / str(table.plot))


# ---- runs -------------------------------------------------------------------------------------


def run_commands(table: Table, root: Path = ROOT) -> None:
    """Run a table's commands, which resume where they stopped, and keep their records.

    Raises
    ------
    DataError
        A command fails, or needs an environment variable that is not set.
    """
    commands = [os.path.expandvars(command) for command in table.commands]
    for command in commands:
        if "$" in command:
            raise DataError(
                f"{table.name}: `{command}` needs an environment variable. Of data that the "
                "project may not hold, it says which folder has them: see examples/paper/README.md."
            )
    here = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in commands:
        click.echo(f"$ {command}")
        done = subprocess.run(shlex.split(command), cwd=root, env=here, check=False)
        if done.returncode:
            raise DataError(f"{table.name}: `{command}` ended with {done.returncode}.")
    collect(table, root)


def collect(table: Table, root: Path = ROOT) -> None:
    """Copy a table's records from its output, and beside them the tuning and the tests by user.

    Models that the output does not have keep the lines they have: they were run elsewhere.
    """
    folders = sorted(root.glob(table.output))
    records: list[Record] = []
    tested: list[Record] = []
    beside: dict[str, list[Record]] = {"trials": [], "finals": []}
    for folder in folders:
        own = [_without_paths(record) for record in read_results(folder / "results.jsonl")]
        world = f" on {own[0]['dataset']}" if table.datasets and own else ""
        pairs = [vars(pair) for pair in Findings.read(folder).pairs if pair.users]
        records += _named(own, world)
        tested += _named([{name: pair[name] for name in _TESTED} for pair in pairs], world)
        for what, lines in beside.items():
            lines += _named(read_lines(folder.parent / "tune" / f"{what}.jsonl"), world)
    models = {str(record["model"]) for record in records}
    keep(table.path, models, records)
    keep(table.beside("tests"), models, tested)
    for what, lines in beside.items():
        keep(table.beside(what), models, lines)


def _named(lines: Sequence[Record], world: str) -> list[Record]:
    """Add a data set to the models' names, so that a table can have a model on several."""
    return [{**line, "model": f"{line['model']}{world}"} for line in lines]


def _without_paths(record: RunRecord) -> Record:
    """Leave out curves and paths."""
    line = record.to_json()
    kept = {name: line[name] for name in _KEPT if name in line}
    settings = {k: v for k, v in record.settings.items() if k not in _PATHS}
    return {**kept, "settings": settings}


def keep(path: Path, models: Collection[str], lines: Sequence[Record]) -> None:
    """Write lines in the place of those that a file has of the models."""
    others = [line for line in read_lines(path) if line["model"] not in models]
    if lines or path.is_file():
        replace_file(path, b"".join(encoded_line(line) for line in (*others, *lines)))


@click.command()
@click.option("--run", is_flag=True, help="Run the commands first; they resume where they stopped.")
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
