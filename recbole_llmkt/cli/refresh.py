"""The command ``llmkt refresh``."""

from __future__ import annotations

from pathlib import Path

import click

from recbole_llmkt.cli.options import ANY_KEY, checkpoint_option, trust_option
from recbole_llmkt.utils.terminal import echo


@click.command(context_settings=ANY_KEY)
@checkpoint_option
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder for the exports, and for what has been done already.",
)
@click.option("--retrain", is_flag=True, help="Train from the start, not from the old weights.")
@click.option(
    "--profiles/--no-profiles",
    default=True,
    help="Write the profiles of changed histories, where the model was trained with profiles.",
)
@click.option(
    "--overwrite-others",
    is_flag=True,
    help="Replace profiles by another generator, model or prompt, even if they cost something.",
)
@click.option(
    "--topk", "-k", type=click.IntRange(min=1), default=10, show_default=True, help="Items each."
)
@click.option(
    "--format", "form", default="csv", show_default=True, help="Of the lists: parquet, csv, jsonl."
)
@click.option("--vectors", help="Write the vectors, too: parquet or npz.")
@trust_option
@click.argument("keys", nargs=-1, type=click.UNPROCESSED)
def refresh(
    checkpoint: str,
    output: Path,
    retrain: bool,
    profiles: bool,
    overwrite_others: bool,
    topk: int,
    form: str,
    vectors: str | None,
    trust: bool,
    keys: tuple[str, ...],
) -> None:
    """Bring a model and its exports up to date with the data of today.

    Profiles whose histories have changed are written again, by the generator that is named here or
    in a trusted checkpoint; the model continues from its old rows; recommendations and vectors are
    exported. Interrupted, the same command resumes.

    \b
    Example:
      llmkt refresh --checkpoint=saved/BPR.pth --output=served --topk=10 --vectors=parquet
    """  # noqa: D301 - \b is click's
    from recbole_llmkt.cli.overrides import parse_overrides
    from recbole_llmkt.recommend.refresh import Refresh
    from recbole_llmkt.recommend.refresh import refresh as bring_up_to_date

    overrides = parse_overrides(keys)
    wanted = Refresh(
        checkpoint,
        output,
        overrides,
        trust=trust,
        retrain=retrain,
        profiles=profiles,
        overwrite_others=overwrite_others,
        topk=topk,
        form=form,
        vectors=vectors,
    )
    done = bring_up_to_date(wanted)
    if done["skipped"]:
        echo(f"Done before: {', '.join(done['skipped'])}")
    echo(f"Profiles written: {done['profiles']}")
    echo(f"Checkpoint: {done['checkpoint']}")
    for path in done["files"]:
        echo(path)
