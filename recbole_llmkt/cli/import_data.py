"""The command ``llmkt import``: tables of a shop's own become a dataset."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from recbole_llmkt.cli.options import names
from recbole_llmkt.datasets.domains import DOMAINS
from recbole_llmkt.utils.terminal import echo
from recbole_llmkt.utils.text import one_line, printable

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("import")
@click.argument("source", type=_FILE)
@click.option("--dataset", "-d", required=True, help="Name of the new dataset.")
@click.option("--user", metavar="COLUMN", help="Column of the users' ids.")
@click.option("--item", metavar="COLUMN", help="Column of the items' ids.")
@click.option("--time", metavar="COLUMN", help="Column of ISO dates, or of seconds since 1970.")
@click.option("--rating", metavar="COLUMN", help="Column of numbers.")
@click.option("--items", metavar="FILE", type=_FILE, help="A table of the items.")
@click.option("--title", metavar="COLUMN", help="Its column of titles.")
@click.option(
    "--category",
    metavar="COLUMN[:SIGN]",
    help='Its column of categories, and the sign between them ("cat:>").',
)
@click.option("--text", metavar="COLUMN", help="Its column of descriptions.")
@click.option("--users", metavar="FILE", type=_FILE, help="A table of the users.")
@click.option(
    "--repeats",
    type=click.Choice(["first", "last", "keep"]),
    default="first",
    show_default=True,
    help="Which of a user's interactions with one item count.",
)
@click.option("--domain", type=click.Choice(DOMAINS), help="What the items are, for prompts.")
@click.option("--time-format", metavar="FORMAT", help="Of dates in other forms: %m/%d/%Y.")
@click.option(
    "--missing",
    metavar="LIST",
    callback=names,
    help="Texts that stand for a missing value, separated by commas: NULL,N/A.",
)
@click.option("--separator", metavar="SIGN", help="Between the cells of CSV; guessed otherwise.")
@click.option("--encoding", default="utf-8", show_default=True, help="Of text files.")
@click.option("--skip-bad-rows", is_flag=True, help="Leave out rows that cannot be used.")
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier import.")
@click.option(
    "--output",
    "-o",
    type=click.Path(file_okay=False, path_type=Path),
    default="dataset",
    show_default=True,
    help="Folder of datasets: RecBole's data_path.",
)
def import_command(
    missing: list[str], separator: str | None, encoding: str, **choices: Any
) -> None:
    """Import orders, ratings or clicks: CSV, TSV, JSON lines (also .gz) or Parquet.

    Columns that are not named are guessed, and every guess is printed. Rows that cannot be used
    are listed with their lines, and nothing is written, unless --skip-bad-rows is given.

    \b
    Examples:
      llmkt import orders.csv --dataset=shop
      llmkt import orders.csv --user=email --item=sku --time=date --dataset=shop \\
        --items=products.csv --title=name --category="cat:>" --text=description
    """  # noqa: D301 - \b is click's
    from recbole_llmkt.datasets.importing.reading import Reading
    from recbole_llmkt.datasets.importing.run import Import, import_data

    separator = {"\\t": "\t", "tab": "\t"}.get(separator or "", separator)
    if separator is not None and len(separator) != 1:
        raise click.BadParameter("one character, or tab.", param_hint="--separator")
    job = Import(
        **choices,
        reading=Reading(encoding, separator, tuple(missing)),
        command=one_line(shlex.join(["llmkt", *sys.argv[1:]])),
    )
    imported = import_data(job)
    echo(printable("\n".join(imported.report)))
    echo(f"{imported.config_file}: the configuration for every other command")
    echo("Next:")
    dataset = [f"--dataset={job.dataset}", f"--config-files={imported.config_file}"]
    for command in _next_commands(dataset, imported.has_titles):
        echo(f"  {shlex.join(command)}")


def _next_commands(dataset: list[str], has_titles: bool) -> list[list[str]]:
    if not has_titles:  # a profile is written from titles
        return [["llmkt", "train", "--model=BPR", *dataset, "--kt_enabled=False"]]
    return [
        ["llmkt", "profile", *dataset, "--dry-run"],
        ["llmkt", "profile", *dataset],
        ["llmkt", "train", "--model=BPR", *dataset, "--kt_entity=both"],
    ]
