"""Commands on single profiles and on files of them: show, edit, export, import."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from recbole_llmkt.cli.options import (
    ANY_KEY,
    both,
    dataset_options,
    entities_option,
    entity_option,
    existing_stores,
    make_config,
)
from recbole_llmkt.profiles.store import Profile, ProfileStore, utc_now
from recbole_llmkt.utils.exceptions import ProfileError
from recbole_llmkt.utils.terminal import echo
from recbole_llmkt.utils.text import one_line, printable

if TYPE_CHECKING:
    from recbole_llmkt.config import Config


@click.command(context_settings=ANY_KEY)
@click.argument("token")
@dataset_options
@entity_option
def show(
    token: str,
    dataset: str,
    model: str,
    config_files: list[str],
    keys: tuple[str, ...],
    entity: str,
) -> None:
    """Show a profile and where it comes from; TOKEN is the id in the atomic files.

    \b
    Example:
      llmkt profile show 42 --dataset=ml-100k
    """  # noqa: D301 - \b is click's
    config = make_config(dataset, model, config_files, keys)
    try:
        store = existing_stores(config, entity)[0]
    except ProfileError as error:
        from recbole_llmkt.profiles.locations import own_folder

        raise _of_other(config, ProfileStore(own_folder(config), entity), token) or error from error
    stored = _profile(config, store, token)
    echo(printable(stored.text) or f"(no profile: {one_line(str(stored.error))})")
    origin = [stored.generator, stored.model, stored.time, "edited" if stored.edited else ""]
    echo(f"\n{store.path}: {one_line(', '.join(part for part in origin if part))}")


def _profile(config: Config, store: ProfileStore, token: str) -> Profile:
    profiles = store.read()
    if token in profiles:
        return profiles[token]
    raise _of_other(config, store, token) or ProfileError(
        f"{store.path} has no profile of the {store.entity} '{token}'; ids there look like "
        f"'{next(iter(profiles), '')}'. `llmkt profile` writes what is missing."
    )


def _of_other(config: Config, store: ProfileStore, token: str) -> ProfileError | None:
    """Return the error for an item's id where a user's was meant, or the other way round."""
    other = ProfileStore(store.folder, "item" if store.entity == "user" else "user")
    if token in other.read():
        return ProfileError(
            f"{store.path} has no profile of the {store.entity} '{token}', but there is one of "
            f"the {other.entity} '{token}': add --entity={other.entity}."
        )
    if _is_id(config, other.entity, token) and not _is_id(config, store.entity, token):
        return ProfileError(
            f"'{token}' is no {store.entity}'s id but that of the {other.entity} '{token}', which "
            f"has no profile yet: `llmkt profile` writes it, and --entity={other.entity} names it."
        )
    return None


def _is_id(config: Config, entity: str, token: str) -> bool:
    """Tell whether the interactions have an id."""
    from recbole_llmkt.datasets.atomic import AtomicFile
    from recbole_llmkt.datasets.splits import interaction_file

    path = interaction_file(config)
    if not path.is_file():
        return False
    table = AtomicFile(path, config)
    column = config[f"{entity.upper()}_ID_FIELD"]
    return column in table.columns and any(row[column] == token for row in table.rows())


def _content(file: TextIO) -> str:
    try:
        return file.read()
    except UnicodeError as error:
        raise ProfileError(f"'{file.name}' is not utf-8 ({error}): convert the file.") from error


@click.command(context_settings=ANY_KEY)
@click.argument("token")
@dataset_options
@entity_option
@click.option("--text", help="The corrected text.")
@click.option(
    "--file",
    "file",
    type=click.File(encoding="utf-8-sig"),
    help="A file with the text; - is stdin.",
)
def edit(
    token: str,
    dataset: str,
    model: str,
    config_files: list[str],
    keys: tuple[str, ...],
    entity: str,
    text: str | None,
    file: TextIO | None,
) -> None:
    """Edit a profile: with --text, --file, or in $EDITOR.

    The profile is marked as edited, and stays when profiles are written again, unless
    --overwrite-edits is given.

    \b
    Example:
      llmkt profile edit 42 --dataset=mine --text="Likes noir films and dislikes musicals."
    """  # noqa: D301 - \b is click's
    from recbole_llmkt.profiles.locations import own_store
    from recbole_llmkt.profiles.store import longest_text, too_long

    config = make_config(dataset, model, config_files, keys)
    store = own_store(config, entity)
    old = _profile(config, store, token)
    if text is None:
        text = _content(file) if file is not None else click.edit(old.text)
    text = None if text is None else printable(text).strip()
    if text is None or text == old.text.strip():
        echo("Nothing changed.")
        return
    problem = too_long(text, longest_text(config))
    if problem:
        raise ProfileError(f"The corrected text cannot be stored: {problem}.")
    if not text:
        raise ProfileError("The corrected text is empty: an entity without text has no profile.")
    with store.writing():
        store.append(replace(old, text=text, edited=True, error=None, time=utc_now()))
    echo(
        f"The profile of {entity} '{one_line(token)}' is corrected; its embedding is "
        "updated by the next run."
    )


@click.command("export", context_settings=ANY_KEY)
@dataset_options
@entities_option
@click.option(
    "--output",
    "-o",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    show_default=True,
    help="Folder for the files.",
)
def export_profiles(
    dataset: str,
    model: str,
    config_files: list[str],
    keys: tuple[str, ...],
    entity: str,
    output: Path,
) -> None:
    """Write profiles and embeddings as atomic files: .userprof, .useremb, .itemprof, .itememb.

    Embeddings are written where profile_encoder has made them of these very texts.

    \b
    Example:
      llmkt profile export --dataset=ml-100k --output=out
    """  # noqa: D301 - \b is click's
    from recbole_llmkt.profiles import exchange
    from recbole_llmkt.profiles.loading import stored_embeddings

    config = make_config(dataset, model, config_files, keys)
    for store in existing_stores(config, entity):
        path = exchange.profile_path(output, dataset, store.entity)
        echo(f"{path}: {exchange.export_profiles(store, path, config)} profiles")
        made = stored_embeddings(config, store)
        if made is None or not made.fits(store.usable()):
            echo(
                f"{store.entity}: no embeddings by {config['profile_encoder']} of these texts; "
                "`llmkt profile embed` creates them."
            )
        else:
            path = exchange.embedding_path(output, dataset, store.entity)
            count = exchange.export_embeddings(made, store.entity, path, config)
            echo(f"{path}: {count} embeddings by {made.encoder}")


@click.command("import", context_settings=ANY_KEY)
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@dataset_options
@entities_option
@click.option("--overwrite-edits", is_flag=True, help="Also replace manual edits.")
def import_profiles(
    source: Path,
    dataset: str,
    model: str,
    config_files: list[str],
    keys: tuple[str, ...],
    entity: str,
    overwrite_edits: bool,
) -> None:
    """Import profiles: a file that was made elsewhere, or the folder of an export.

    A file has JSON lines or is an atomic file, with ids (user_id, item_id, or id with --entity),
    text and, if known, history. A folder may hold embeddings, too; they count as made by
    profile_encoder. Texts that a person corrected stay, unless --overwrite-edits is given.

    \b
    Examples:
      llmkt profile import out --dataset=mine
      llmkt profile import films.jsonl --dataset=mine --entity=item
    """  # noqa: D301 - \b is click's
    from recbole_llmkt.profiles import exchange
    from recbole_llmkt.profiles.external import entities_in
    from recbole_llmkt.profiles.locations import own_store

    config = make_config(dataset, model, config_files, keys)
    if source.is_file():
        for name in entities_in(source, config) if entity == "both" else (entity,):
            store = own_store(config, name)
            count = exchange.import_external(store, source, config, overwrite_edits)
            echo(f"{source}: {count} {name} profiles imported")
        return
    take_profiles = partial(exchange.import_profiles, overwrite_edits=overwrite_edits)
    is_empty = True
    for name in both(entity):
        for kind, path_of, take in (
            ("profiles", exchange.profile_path, take_profiles),
            ("embeddings", exchange.embedding_path, exchange.import_embeddings),
        ):
            path = path_of(source, dataset, name)
            if path.is_file():
                is_empty = False
                count = take(own_store(config, name), path, config)
                echo(f"{path}: {count} {kind} imported")
    if is_empty:
        raise ProfileError(
            f"{source} has no {dataset}.userprof, .useremb, .itemprof or .itememb: name the folder "
            "of an export, with the same --dataset."
        )
