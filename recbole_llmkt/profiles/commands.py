"""The command ``llmkt profile``: write, embed, look at, mend and carry profiles."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from recbole_llmkt.config import Config
from recbole_llmkt.exceptions import ProfileError
from recbole_llmkt.experiment.plan import parse_overrides, warn_unknown
from recbole_llmkt.profiles.store import ENTITIES, Profile, ProfileStore, utc_now

_ANY_KEY = {"ignore_unknown_options": True}


class _Profile(click.Group):
    """A group whose own options are those of its command ``write``."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        known = {*self.commands, *context.help_option_names}
        return super().parse_args(context, args if args and args[0] in known else ["write", *args])

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        write = self.commands["write"]
        options = [one for one in write.params if isinstance(one, click.Option)]
        rows = [row for one in options if (row := one.get_help_record(context)) is not None]
        with formatter.section("Options"):
            formatter.write_dl(rows)
        self.format_commands(context, formatter)


@click.group(cls=_Profile, options_metavar="[OPTIONS] [--KEY=VALUE]...", subcommand_metavar="")
def profile() -> None:
    """Write the profiles of a dataset's users and items, and embed them.

    Only what is missing, or was written from another history, is written; started again, the
    command goes on where it stopped. Any RecBole or profile_ key goes as --key=value. Without
    options, one of the commands below.

    \b
    Examples:
      llmkt profile --dataset=ml-1m --dry-run --price-in=0.15 --price-out=0.6
      llmkt profile --dataset=ml-1m --entity=user --profile_generator=openai \\
        --profile_model=gpt-4o-mini --profile_concurrency=64
    """  # noqa: D301 - \b is click's


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what every command needs to find the dataset and its profiles."""
    added = [
        click.option("--dataset", "-d", required=True, help="The dataset's name."),
        click.option(
            "--model",
            "-m",
            default="BPR",
            show_default=True,
            help="The model that will train on them: it decides how RecBole splits the data.",
        ),
        click.option(
            "--config-files", "--config_files", default="", help='YAML files: "a.yaml b.yaml".'
        ),
        click.argument("keys", nargs=-1, type=click.UNPROCESSED),
    ]
    for add in reversed(added):
        function = add(function)
    return function


_entities = click.option(
    "--entity",
    type=click.Choice([*ENTITIES, "both"]),
    default="both",
    show_default=True,
    help="Whose profiles.",
)
_entity = click.option(
    "--entity", type=click.Choice(ENTITIES), default="user", show_default=True, help="Whose."
)
_dtype = click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="How vectors are stored.",
)


def _config(dataset: str, model: str, config_files: str, keys: Sequence[str]) -> Config:
    overrides = parse_overrides(keys)
    config = Config(model, dataset, shlex.split(config_files), overrides, command_line=[])
    warn_unknown(overrides, config)
    return config


def _both(entity: str) -> tuple[str, ...]:
    return ENTITIES if entity == "both" else (entity,)


def _existing(config: Config, entity: str) -> list[ProfileStore]:
    """Return the stores that exist of the wanted entities; at least one."""
    from recbole_llmkt.profiles.hook import profile_folder

    folder = profile_folder(config, None if entity == "both" else entity)
    stores = [ProfileStore(folder, one) for one in _both(entity)]
    return [store for store in stores if store.exists()]


def _own_store(config: Config, entity: str) -> ProfileStore:
    """Return a store to write to: never the one that comes with the package."""
    from recbole_llmkt.profiles.hook import bundled_folder, own_folder

    store = ProfileStore(own_folder(config), entity)
    bundled = ProfileStore(bundled_folder(config), entity)
    if not store.exists() and bundled.exists():
        raise ProfileError(
            f"The {entity} profiles of '{config['dataset']}' come with the package. To change "
            f"them, copy {bundled.folder} to a folder of yours and name that with profile_dir."
        )
    return store


def _embed(config: Config, store: ProfileStore, dtype: str) -> None:
    from recbole_llmkt.profiles.embeddings import build_embeddings
    from recbole_llmkt.profiles.encoders import get_encoder
    from recbole_llmkt.profiles.hook import embedding_home

    home = store.folder if config["profile_dir"] else embedding_home(store.folder)
    made = build_embeddings(store, get_encoder(config), home, dtype)
    n_profiles, width = made.vectors.shape
    click.echo(f"{store.entity}: {n_profiles} embeddings of width {width} by {made.encoder}")


@profile.command(context_settings=_ANY_KEY, hidden=True)
@_options
@_entities
@click.option("--dry-run", is_flag=True, help="Show prompts, tokens and cost; ask nobody.")
@click.option("--price-in", type=float, help="Price of a million prompt tokens, for --dry-run.")
@click.option("--price-out", type=float, help="Price of a million answer tokens, for --dry-run.")
@click.option("--shard", metavar="I/N", help="Write part I of N; see `llmkt profile merge`.")
@click.option("--retry-failed", is_flag=True, help="Take up again what failed earlier.")
@click.option("--overwrite-edits", is_flag=True, help="Write anew what a person corrected.")
@_dtype
def write(
    dataset: str,
    model: str,
    config_files: str,
    keys: tuple[str, ...],
    entity: str,
    dry_run: bool,
    price_in: float | None,
    price_out: float | None,
    shard: str | None,
    retry_failed: bool,
    overwrite_edits: bool,
    dtype: str,
) -> None:
    """Write profiles and embed them; the same as `llmkt profile` with these options.

    \b
    Example:
      llmkt profile --dataset=ml-1m --shard=3/16
    """  # noqa: D301 - \b is click's
    from recbole_llmkt.profiles.generate import generate_profiles

    config = _config(dataset, model, config_files, keys)
    which = {"shard": shard, "retry_failed": retry_failed, "overwrite_edits": overwrite_edits}
    if dry_run:
        for one in _both(entity):
            _show_estimate(config, one, price_in, price_out, which)
        return
    n_failed = 0
    for one in _both(entity):
        summary = generate_profiles(config, one, **which)  # type: ignore[arg-type]
        n_failed += summary.failed
        click.echo(
            f"{one}: {summary.written} profiles written, {summary.failed} failed, "
            f"{summary.skipped} fresh before; {summary.tokens_in} tokens in, "
            f"{summary.tokens_out} out; {summary.seconds:.1f} s"
        )
    if not shard:
        for store in _existing(config, entity):
            if any(one.usable for one in store.read().values()):
                _embed(config, store, dtype)
    if n_failed:
        raise click.ClickException(
            f"{n_failed} profiles failed; their reasons are stored. --retry-failed tries again."
        )


def _show_estimate(
    config: Config,
    entity: str,
    price_in: float | None,
    price_out: float | None,
    which: dict[str, Any],
) -> None:
    from recbole_llmkt.profiles.generate import estimate

    found = estimate(config, entity, price_in, price_out, **which)
    for text in found.first:
        click.echo(f"{text}\n{'-' * 72}")
    cost = "" if found.cost is None else f", {found.cost:.2f} in the currency of the prices"
    click.echo(
        f"{entity}: {found.count} profiles to write, {found.skipped} fresh; about "
        f"{found.tokens_in} tokens in, at most {found.tokens_out} out{cost}"
    )


@profile.command(context_settings=_ANY_KEY)
@_options
@_entities
@_dtype
def embed(
    dataset: str, model: str, config_files: str, keys: tuple[str, ...], entity: str, dtype: str
) -> None:
    """Encode the profiles; texts that this encoder has read before are not read again.

    \b
    Example:
      llmkt profile embed --dataset=ml-100k --profile_encoder=wordllama
    """  # noqa: D301 - \b is click's
    config = _config(dataset, model, config_files, keys)
    for store in _existing(config, entity):
        _embed(config, store, dtype)


@profile.command(context_settings=_ANY_KEY)
@click.argument("token")
@_options
@_entity
def show(
    token: str, dataset: str, model: str, config_files: str, keys: tuple[str, ...], entity: str
) -> None:
    """Show a profile and where it comes from; TOKEN is the id in the atomic files.

    \b
    Example:
      llmkt profile show 42 --dataset=ml-100k
    """  # noqa: D301 - \b is click's
    store = _existing(_config(dataset, model, config_files, keys), entity)[0]
    found = _profile(store, token)
    click.echo(found.text or f"(no profile: {found.error})")
    origin = [found.generator, found.model, found.time, "edited" if found.edited else ""]
    click.echo(f"\n{store.path}: {', '.join(part for part in origin if part)}")


def _profile(store: ProfileStore, token: str) -> Profile:
    profiles = store.read()
    if token not in profiles:
        raise ProfileError(
            f"{store.path} has no profile of the {store.entity} '{token}'; ids there look like "
            f"'{next(iter(profiles), '')}'. `llmkt profile` writes what is missing."
        )
    return profiles[token]


@profile.command(context_settings=_ANY_KEY)
@click.argument("token")
@_options
@_entity
@click.option("--text", help="The corrected text.")
@click.option(
    "--file", "file", type=click.File(encoding="utf-8"), help="A file with it; - is stdin."
)
def edit(
    token: str,
    dataset: str,
    model: str,
    config_files: str,
    keys: tuple[str, ...],
    entity: str,
    text: str | None,
    file: Any,
) -> None:
    """Correct a profile by hand: with --text, --file, or in $EDITOR.

    The correction is marked as one, and stays when profiles are written anew, unless
    --overwrite-edits is given.

    \b
    Example:
      llmkt profile edit 42 --dataset=mine --text="Likes noir films and dislikes musicals."
    """  # noqa: D301 - \b is click's
    store = _own_store(_config(dataset, model, config_files, keys), entity)
    old = _profile(store, token)
    if text is None:
        text = file.read() if file is not None else click.edit(old.text)
    if text is None or text.strip() == old.text.strip():
        click.echo("Nothing is changed.")
        return
    if not text.strip():
        raise ProfileError("The corrected text is empty: an entity without text has no profile.")
    with store.writing():
        store.append(replace(old, text=text.strip(), edited=True, error=None, time=utc_now()))
    click.echo(f"The profile of {entity} '{token}' is corrected; its embedding follows by itself.")


@profile.command(context_settings=_ANY_KEY)
@_options
@_entities
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Histogram of the lengths [default: lengths.png beside the profiles].",
)
def check(
    dataset: str,
    model: str,
    config_files: str,
    keys: tuple[str, ...],
    entity: str,
    plot: Path | None,
) -> None:
    """Check profiles: coverage, failures, refusals, repetitions, leaks, language, lengths.

    Ends with exit code 1 if something should be mended before training.

    \b
    Example:
      llmkt profile check --dataset=ml-100k --plot=lengths.png
    """  # noqa: D301 - \b is click's
    from recbole_llmkt.profiles.check import check_stores, plot_lengths

    config = _config(dataset, model, config_files, keys)
    stores = _existing(config, entity)
    checks = check_stores(config, stores)
    click.echo("\n".join(line for found in checks for line in found.lines()))
    path = plot or stores[0].folder / "lengths.png"
    plot_lengths(checks, path)
    click.echo(f"{path}: words per profile")
    n_problems = sum(found.n_problems for found in checks)
    if n_problems:
        raise click.ClickException(
            f"{n_problems} profiles should be mended: write them anew (`llmkt profile "
            "--retry-failed`) or correct them (`llmkt profile edit`)."
        )


@profile.command(context_settings=_ANY_KEY)
@_options
@_entities
def merge(dataset: str, model: str, config_files: str, keys: tuple[str, ...], entity: str) -> None:
    """Gather the parts that `llmkt profile --shard=I/N` wrote.

    May be run again and again: what is there already is passed over.

    \b
    Example:
      llmkt profile merge --dataset=ml-1m
    """  # noqa: D301 - \b is click's
    from recbole_llmkt.profiles.hook import own_folder

    config = _config(dataset, model, config_files, keys)
    folder = own_folder(config)
    for one in _both(entity):
        parts = [ProfileStore(part, one) for part in sorted((folder / "shards").glob("*-of-*"))]
        parts = [part for part in parts if part.exists()]
        if not parts:
            click.echo(f"{one}: no parts in {folder / 'shards'}")
            continue
        added = ProfileStore(folder, one).merge(parts)
        click.echo(f"{one}: {added} profiles taken from {len(parts)} parts")


@profile.command("export", context_settings=_ANY_KEY)
@_options
@_entities
@click.option(
    "--output",
    "-o",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    show_default=True,
    help="Folder of the files.",
)
def export_(
    dataset: str,
    model: str,
    config_files: str,
    keys: tuple[str, ...],
    entity: str,
    output: Path,
) -> None:
    """Write profiles and embeddings as atomic files: .userprof, .useremb, .itemprof, .itememb.

    \b
    Example:
      llmkt profile export --dataset=ml-100k --output=out
    """  # noqa: D301 - \b is click's
    from recbole_llmkt.profiles import transport
    from recbole_llmkt.profiles.hook import stored_embeddings

    config = _config(dataset, model, config_files, keys)
    for store in _existing(config, entity):
        path = transport.profile_path(output, dataset, store.entity)
        click.echo(f"{path}: {transport.export_profiles(store, path, config)} profiles")
        made = stored_embeddings(config, store)
        if made is not None:
            path = transport.embedding_path(output, dataset, store.entity)
            count = transport.export_embeddings(made, store.entity, path, config)
            click.echo(f"{path}: {count} embeddings by {made.encoder}")


@profile.command("import", context_settings=_ANY_KEY)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_options
@_entities
def import_(
    folder: Path,
    dataset: str,
    model: str,
    config_files: str,
    keys: tuple[str, ...],
    entity: str,
) -> None:
    """Take profiles and embeddings from the atomic files in FOLDER.

    Embeddings count as made by profile_encoder.

    \b
    Example:
      llmkt profile import out --dataset=mine
    """  # noqa: D301 - \b is click's
    from recbole_llmkt.profiles import transport

    config = _config(dataset, model, config_files, keys)
    found = False
    for one in _both(entity):
        for kind, path_of, take in (
            ("profiles", transport.profile_path, transport.import_profiles),
            ("embeddings", transport.embedding_path, transport.import_embeddings),
        ):
            path = path_of(folder, dataset, one)
            if path.is_file():
                found = True
                click.echo(f"{path}: {take(_own_store(config, one), path, config)} {kind} taken")
    if not found:
        raise ProfileError(
            f"{folder} has no {dataset}.userprof, .useremb, .itemprof or .itememb: name the folder "
            "of an export, with the same --dataset."
        )
