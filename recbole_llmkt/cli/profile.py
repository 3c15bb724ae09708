"""The command ``llmkt profile``: write, embed, check, correct and exchange profiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from recbole_llmkt.cli.options import (
    ANY_KEY,
    both,
    dataset_options,
    entities_option,
    existing_stores,
    make_config,
)
from recbole_llmkt.cli.profile_texts import edit, export_profiles, import_profiles, show
from recbole_llmkt.config import Config
from recbole_llmkt.profiles.store import ProfileStore
from recbole_llmkt.utils.terminal import echo
from recbole_llmkt.utils.text import one_line, printable

if TYPE_CHECKING:
    from recbole_llmkt.profiles.generation.selection import Selection


class _Profile(click.Group):
    """A group whose own options are those of its command ``write``."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        known = {*self.commands, *context.help_option_names}
        return super().parse_args(context, args if args and args[0] in known else ["write", *args])

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        write = self.commands["write"]
        options = [option for option in write.params if isinstance(option, click.Option)]
        records = (option.get_help_record(context) for option in options)
        rows = [row for row in records if row is not None]
        with formatter.section("Options"):
            formatter.write_dl(rows)
        self.format_commands(context, formatter)


@click.group(cls=_Profile, options_metavar="[OPTIONS] [--KEY=VALUE]...", subcommand_metavar="")
def profile() -> None:
    """Write the profiles of a dataset's users and items, and embed them.

    Only what is missing, or was written from another history, is written; started again, the
    command resumes. Any RecBole or profile_ key goes as --key=value. Without
    options, one of the commands below.

    \b
    Examples:
      llmkt profile --dataset=ml-1m --dry-run --price-in=0.15 --price-out=0.6
      llmkt profile --dataset=ml-1m --entity=user --profile_generator=openai \\
        --profile_model=gpt-4o-mini --profile_concurrency=64
    """  # noqa: D301 - \b is click's


_dtype = click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="How vectors are stored.",
)


def _embed(config: Config, stores: list[ProfileStore], dtype: str) -> None:
    from recbole_llmkt.profiles.embeddings import build_embeddings
    from recbole_llmkt.profiles.encoders import get_encoder
    from recbole_llmkt.profiles.locations import embedding_home

    if not stores:
        return
    encoder = get_encoder(config)
    for store in stores:
        home = store.folder if config["profile_dir"] else embedding_home(store.folder)
        made = build_embeddings(store, encoder, home, dtype)
        n_profiles, width = made.vectors.shape
        echo(f"{store.entity}: {n_profiles} embeddings of width {width} by {made.encoder}")


@profile.command(context_settings=ANY_KEY, hidden=True)
@dataset_options
@entities_option
@click.option("--dry-run", is_flag=True, help="Show prompts, tokens and cost; send nothing.")
@click.option("--price-in", type=float, help="Price of a million prompt tokens, for --dry-run.")
@click.option("--price-out", type=float, help="Price of a million answer tokens, for --dry-run.")
@click.option("--shard", metavar="I/N", help="Write part I of N; see `llmkt profile merge`.")
@click.option("--retry-failed", is_flag=True, help="Try failed profiles again.")
@click.option(
    "--overwrite-others",
    is_flag=True,
    help="Also replace profiles by other generators, models or prompts (template's always are).",
)
@click.option("--overwrite-edits", is_flag=True, help="Also replace manual edits.")
@_dtype
def write(
    dataset: str,
    model: str,
    config_files: list[str],
    keys: tuple[str, ...],
    entity: str,
    dry_run: bool,
    price_in: float | None,
    price_out: float | None,
    shard: str | None,
    retry_failed: bool,
    overwrite_others: bool,
    overwrite_edits: bool,
    dtype: str,
) -> None:
    """Write profiles and embed them; the same as `llmkt profile` with these options.

    \b
    Example:
      llmkt profile --dataset=ml-1m --shard=3/16
    """  # noqa: D301 - \b is click's
    from recbole_llmkt.profiles.external import entities_in
    from recbole_llmkt.profiles.generation.run import generate_profiles
    from recbole_llmkt.profiles.generation.selection import Selection

    config = make_config(dataset, model, config_files, keys)
    entities = both(entity)
    if entity == "both" and config["profile_generator"] == "file" and config["profile_file"]:
        entities = entities_in(Path(config["profile_file"]), config)
    selection = Selection(shard, retry_failed, overwrite_others, overwrite_edits)
    if dry_run:
        for name in entities:
            _show_estimate(config, name, price_in, price_out, selection)
        return
    n_failed = 0
    for name in entities:
        summary = generate_profiles(config, name, selection)
        n_failed += summary.failed
        echo(
            f"{name}: {summary.written} profiles written, {summary.failed} failed, "
            f"{summary.skipped} up to date; {summary.tokens_in} tokens in, "
            f"{summary.tokens_out} out; {summary.seconds:.1f} s"
        )
    if not shard:
        _embed(
            config, [store for store in existing_stores(config, entity) if store.usable()], dtype
        )
    if n_failed:
        raise click.ClickException(
            f"{n_failed} profiles failed; the reasons are stored. --retry-failed tries them again."
        )


def _show_estimate(
    config: Config,
    entity: str,
    price_in: float | None,
    price_out: float | None,
    selection: Selection,
) -> None:
    from recbole_llmkt.profiles.generation.run import estimate

    needed = estimate(config, entity, price_in, price_out, selection)
    for text in needed.first:
        echo(f"{printable(text)}\n{'-' * 72}")
    cost = "" if needed.cost is None else f", {needed.cost:.2f} in the currency of the prices"
    echo(
        f"{entity}: {needed.count} profiles to write, {needed.skipped} up to date; about "
        f"{needed.tokens_in} tokens in, at most {needed.tokens_out} out{cost}"
    )


@profile.command(context_settings=ANY_KEY)
@dataset_options
@entities_option
@_dtype
def embed(
    dataset: str,
    model: str,
    config_files: list[str],
    keys: tuple[str, ...],
    entity: str,
    dtype: str,
) -> None:
    """Encode the profiles; texts that this encoder has read before are not read again.

    \b
    Example:
      llmkt profile embed --dataset=ml-100k --profile_encoder=wordllama
    """  # noqa: D301 - \b is click's
    config = make_config(dataset, model, config_files, keys)
    _embed(config, existing_stores(config, entity), dtype)


@profile.command(context_settings=ANY_KEY)
@dataset_options
@entities_option
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw a histogram of the lengths into this file.",
)
def check(
    dataset: str,
    model: str,
    config_files: list[str],
    keys: tuple[str, ...],
    entity: str,
    plot: Path | None,
) -> None:
    """Check profiles: coverage, failures, refusals, repetitions, leaks, language, lengths.

    Ends with exit code 1 if something should be fixed before training.

    \b
    Example:
      llmkt profile check --dataset=ml-100k --plot=lengths.png
    """  # noqa: D301 - \b is click's
    from recbole_llmkt.profiles.check import check_stores, plot_lengths

    config = make_config(dataset, model, config_files, keys)
    stores = existing_stores(config, entity)
    checks = check_stores(config, stores)
    echo("\n".join(one_line(line) for checked in checks for line in checked.lines()))
    if plot:
        plot_lengths(checks, plot)
        echo(f"{plot}: words per profile")
    n_problems = sum(checked.n_problems for checked in checks)
    if n_problems:
        edit_commands = [
            f"`llmkt profile edit ID --entity={checked.entity}`"
            for checked in checks
            if checked.n_problems
        ]
        raise click.ClickException(
            f"{n_problems} profiles should be fixed: write them again (`llmkt profile`, with "
            f"--retry-failed for failures) or correct them ({', '.join(edit_commands)})."
        )


@profile.command(context_settings=ANY_KEY)
@dataset_options
@entities_option
def merge(
    dataset: str, model: str, config_files: list[str], keys: tuple[str, ...], entity: str
) -> None:
    """Gather the parts that `llmkt profile --shard=I/N` wrote.

    May be run repeatedly: profiles that are already there are skipped.

    \b
    Example:
      llmkt profile merge --dataset=ml-1m
    """  # noqa: D301 - \b is click's
    from recbole_llmkt.profiles.locations import own_folder

    config = make_config(dataset, model, config_files, keys)
    folder = own_folder(config)
    for whose in both(entity):
        parts = [ProfileStore(part, whose) for part in sorted((folder / "shards").glob("*-of-*"))]
        parts = [part for part in parts if part.exists()]
        if not parts:
            echo(f"{whose}: no parts in {folder / 'shards'}")
            continue
        added = ProfileStore(folder, whose).merge(parts)
        echo(f"{whose}: {added} profiles taken from {len(parts)} parts")


for command in (show, edit, export_profiles, import_profiles):
    profile.add_command(command)
