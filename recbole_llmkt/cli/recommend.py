"""The command ``llmkt recommend``."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recbole_llmkt.cli.options import ANY_KEY, checkpoint_option, trust_option, where_option
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.terminal import echo

if TYPE_CHECKING:
    from recbole_llmkt.recommend.recommender import Recommendation
    from recbole_llmkt.utils.types import RunConfig

_PAGES = (".html", ".htm", ".xhtml", ".xml", ".svg", ".md")
# More users than these go to a file.
_SCREENFUL = 100


def read_tokens(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    """Read tokens as a line of CSV, so that one with a comma can be quoted."""
    (row,) = csv.reader([value.replace("\n", " ")], skipinitialspace=True)
    # Plain blanks only: an id may end in another kind of blank (U+00A0).
    tokens = list(dict.fromkeys(token.strip(" ") for token in row if token.strip(" ")))
    if not tokens:
        raise click.BadParameter("name at least one user, such as --users=1,5, or all.")
    return tokens


@click.command(context_settings=ANY_KEY)
@checkpoint_option
@click.option(
    "--users",
    required=True,
    callback=read_tokens,
    help='Their ids in the atomic files, separated by commas ("a,b",c quotes one), or all.',
)
@click.option(
    "--topk", "-k", type=click.IntRange(min=1), default=10, show_default=True, help="Items each."
)
@click.option(
    "--reasons",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Sentences of the user's profile for each item.",
)
@where_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per user and line.")
@click.option("--html", "as_html", is_flag=True, help="A self-contained page.")
@trust_option
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file."
)
@click.argument("keys", nargs=-1, type=click.UNPROCESSED)
def recommend(
    checkpoint: str,
    users: list[str],
    topk: int,
    reasons: int,
    where: tuple[str, ...],
    as_json: bool,
    as_html: bool,
    trust: bool,
    output: Path | None,
    keys: tuple[str, ...],
) -> None:
    """Recommend items to users, with the profile sentences that fit each item.

    The ranking is the model's. A reason is a match of texts that is looked up afterwards: the
    sentence of the user's profile that the item's profile is nearer to than those of the other
    items in the list. Settings given here, such
    as --data_path=DIR or --profile_dir=DIR, override those of the checkpoint. Addresses, profile
    folders and class paths in it are used only with --trust.

    \b
    Example:
      llmkt recommend --checkpoint=saved/BPR.pth --users=1,5 --topk=10
      llmkt recommend --checkpoint=saved/BPR.pth --users=all --json -o recommended.jsonl
    """  # noqa: D301 - \b is click's
    if as_json and as_html:
        raise ConfigError("--json and --html exclude each other: choose one.")
    if output is not None and output.suffix.lower() in _PAGES and not as_html:
        raise ConfigError(
            f"--output={output}: text in a page would be read as HTML: add --html, or choose a "
            "name that ends with .txt or .jsonl."
        )
    from recbole_llmkt.cli.overrides import parse_overrides
    from recbole_llmkt.recommend import Recommender

    recommender = Recommender(checkpoint, parse_overrides(keys), trust)
    wanted = recommender.users if users == ["all"] else users
    recommendations = recommender.top_k(wanted, topk, where, reasons)
    if len(wanted) > _SCREENFUL and output is None:
        raise ConfigError(
            f"{len(wanted)} users are too many for a screen: name a file with --output=FILE, or "
            "fewer --users."
        )
    lines = _lines(recommendations, recommender.config, as_json, as_html)
    if output is None:
        for line in lines:
            echo(line)
        return
    _write(output, lines)
    echo(f"{output}: {len(wanted)} users")


def _lines(
    recommendations: Iterable[Recommendation], config: RunConfig, as_json: bool, as_html: bool
) -> Iterable[str]:
    from recbole_llmkt.recommend import render

    if as_html:
        return [render.page(recommendations, config)]
    if as_json:
        return map(render.json_line, recommendations)
    return (line for each in recommendations for line in render.text_lines(each))


def _write(path: Path, lines: Iterable[str]) -> None:
    from recbole_llmkt.utils.files import replace_file

    replace_file(path, "".join(f"{line}\n" for line in lines).encode(), "--output")
