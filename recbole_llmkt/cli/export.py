"""The command ``llmkt export``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recbole_llmkt.cli.options import ANY_KEY, checkpoint_option, trust_option, where_option
from recbole_llmkt.cli.recommend import read_tokens
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.terminal import echo

if TYPE_CHECKING:
    from recbole_llmkt.recommend import Recommender


@click.command(context_settings=ANY_KEY)
@checkpoint_option
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    help="A folder for vectors; for recommendations a file: .parquet, .csv or .jsonl.",
)
@click.option(
    "--topk", "-k", type=click.IntRange(min=1), help="Recommendations: so many items for each user."
)
@click.option(
    "--users", default="all", callback=read_tokens, help="Whose recommendations; default: all."
)
@where_option
@click.option(
    "--reasons",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Sentences of the user's profile for each recommended item.",
)
@click.option("--format", "form", help="Of the vectors: parquet (the default) or npz.")
@trust_option
@click.argument("keys", nargs=-1, type=click.UNPROCESSED)
def export(
    checkpoint: str,
    output: Path,
    topk: int | None,
    users: list[str],
    where: tuple[str, ...],
    reasons: int,
    form: str | None,
    trust: bool,
    keys: tuple[str, ...],
) -> None:
    """Write the vectors of users and items, or with --topk recommendations, to files.

    Vectors are for a vector index: the model's score is their product. Models that score in
    another way are refused; their recommendations can be exported.

    \b
    Example:
      llmkt export --checkpoint=saved/BPR.pth --output=vectors
      llmkt export --checkpoint=saved/BPR.pth --topk=10 --output=top10.parquet
    """  # noqa: D301 - \b is click's
    from recbole_llmkt.cli.overrides import parse_overrides
    from recbole_llmkt.recommend import Recommender, files

    overrides = parse_overrides(keys)
    if topk is None:
        if where or reasons or users != ["all"]:
            raise ConfigError(
                "--where, --reasons and --users are for recommendations: add --topk=10."
            )
        files.check_format(form or "parquet", files.VECTOR_FORMATS)
        if output.is_file() or output.suffix:
            raise ConfigError(
                f"--output={output}: vectors go to a folder, as users.parquet and items.parquet. "
                "Recommendations go to a file: add --topk=10."
            )
        _export_vectors(Recommender(checkpoint, overrides, trust), output, form or "parquet")
        return
    if form is not None:
        raise ConfigError("--format is for vectors: recommendations follow the suffix of --output.")
    files.check_format(output.suffix[1:], files.LIST_FORMATS)
    recommender = Recommender(checkpoint, overrides, trust)
    wanted = recommender.users if users == ["all"] else users
    blocks = recommender.blocks(wanted, topk, where, reasons)
    count = files.write_recommendations(output, blocks, bool(reasons))
    echo(f"{output}: {topk} items each for {count} users")


def _export_vectors(recommender: Recommender, folder: Path, form: str) -> None:
    from recbole_llmkt.recommend import files

    factors = recommender.factors()
    paths = files.write_vectors(folder, recommender.users, recommender.items, factors, form)
    tables: Sequence[tuple[Path, int]] = list(zip(paths, map(len, (factors.users, factors.items))))
    for path, count in tables:
        echo(f"{path}: {count} vectors of width {factors.users.shape[1]}")
