"""Options that several commands of ``llmkt`` have."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
from typing_extensions import ParamSpec

from recbole_llmkt.cli.overrides import parse_overrides
from recbole_llmkt.utils.entities import ENTITIES
from recbole_llmkt.utils.exceptions import ConfigError

if TYPE_CHECKING:
    from recbole_llmkt.config import Config
    from recbole_llmkt.profiles.store import ProfileStore

# Settings of a command that takes --key=value for any key, in its argument `keys`.
ANY_KEY = {"ignore_unknown_options": True}
LARGEST_SEED = 2**31 - 1
logger = logging.getLogger(__name__)


def names(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    """Split a list of names, separated by commas: a callback of click's options."""
    return [name.strip() for name in (value or "").split(",") if name.strip()]


def split_words(text: str, place: str) -> list[str]:
    """Split words as a shell does, with quotes around those that have blanks.

    Parameters
    ----------
    text : str
        The words.
    place : str
        Where they were given, for the message.

    Raises
    ------
    ConfigError
        A quote does not end.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(
            f"{place}: cannot read [{text}] ({error}). Put a backslash before a quote within "
            "a word, or put the word in the other kind of quotes."
        ) from error


def yaml_files(values: Sequence[str]) -> list[str]:
    """Return the files that the values of ``--config-files`` name.

    Parameters
    ----------
    values : sequence of str
        Each one is the path of a file, or several paths separated by blanks.

    Raises
    ------
    ConfigError
        A quote does not end.
    """
    files = []
    for value in values:
        files += [value] if os.path.isfile(value) else split_words(value, "--config-files")
    return files


config_files_option = click.option(
    "--config-files",
    "--config_files",
    multiple=True,
    metavar="FILE",
    callback=lambda context, parameter, values: yaml_files(values),
    help='A YAML file; may be given several times, or as "a.yaml b.yaml".',
)


P = ParamSpec("P")
T = TypeVar("T")


def dataset_options(function: Callable[P, T]) -> Callable[P, T]:
    """Add what every command needs to find the dataset and its profiles."""
    added = [
        click.option("--dataset", "-d", required=True, help="The dataset's name."),
        click.option(
            "--model",
            "-m",
            default="BPR",
            show_default=True,
            help="The model that will be trained; it determines how RecBole splits the data.",
        ),
        config_files_option,
        click.argument("keys", nargs=-1, type=click.UNPROCESSED),
    ]
    for add in reversed(added):
        function = add(function)
    return function


entities_option = click.option(
    "--entity",
    type=click.Choice([*ENTITIES, "both"]),
    default="both",
    show_default=True,
    help="Whose profiles.",
)
entity_option = click.option(
    "--entity", type=click.Choice(ENTITIES), default="user", show_default=True, help="Whose."
)


checkpoint_option = click.option(
    "--checkpoint",
    required=True,
    type=click.Path(exists=True, dir_okay=False),
    help="What a training run saved.",
)
trust_option = click.option(
    "--trust", is_flag=True, help="The checkpoint, or the study, is yours: use all that it names."
)

where_option = click.option(
    "--where",
    multiple=True,
    metavar="CONDITION",
    help="Only items that meet it: category=Books or 'price<20'. May be given several times.",
)


def make_config(
    dataset: str, model: str, config_files: Sequence[str], keys: Sequence[str]
) -> Config:
    """Return the configuration of a command, which does not read the program's own arguments."""
    from recbole_llmkt.config import Config, warn_unknown

    overrides = parse_overrides(keys)
    config = Config(model, dataset, config_files, overrides, command_line=[])
    warn_unknown(overrides, config.internal_config_dict)
    warn_unused_file(config, config_files)
    return config


def warn_unused_file(config: Config, config_files: Sequence[str]) -> None:
    """Warn if the dataset comes with a file of settings, as from ``llmkt import``, left out."""
    own = Path(config["data_path"], f"{config['dataset']}.yaml")
    if own.is_file() and not any(own.samefile(file) for file in config_files):
        path = os.path.relpath(own)
        logger.warning(
            "%s, the settings of this dataset, is not used: add --config-files=%s.", path, path
        )


def both(entity: str) -> tuple[str, ...]:
    """Return the entities that ``--entity`` means."""
    return ENTITIES if entity == "both" else (entity,)


def existing_stores(config: Config, entity: str) -> list[ProfileStore]:
    """Return the stores that exist of the wanted entities; at least one."""
    from recbole_llmkt.profiles.locations import profile_folder
    from recbole_llmkt.profiles.store import ProfileStore

    folder = profile_folder(config, None if entity == "both" else entity)
    stores = [ProfileStore(folder, name) for name in both(entity)]
    return [store for store in stores if store.exists()]
