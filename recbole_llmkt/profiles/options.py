"""What the commands of ``llmkt profile`` share: options, configuration, stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from recbole_llmkt.config import Config
from recbole_llmkt.experiment.settings import parse_overrides, warn_unknown
from recbole_llmkt.options import split_words
from recbole_llmkt.profiles.store import ENTITIES, ProfileStore


def dataset_options(function: Callable[..., Any]) -> Callable[..., Any]:
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


def make_config(dataset: str, model: str, config_files: str, keys: Sequence[str]) -> Config:
    """Return the configuration of a command, which does not read the program's own arguments."""
    overrides = parse_overrides(keys)
    config = Config(
        model, dataset, split_words(config_files, "--config-files"), overrides, command_line=[]
    )
    warn_unknown(overrides, config.internal_config_dict)
    return config


def both(entity: str) -> tuple[str, ...]:
    """Return the entities that ``--entity`` means."""
    return ENTITIES if entity == "both" else (entity,)


def existing_stores(config: Config, entity: str) -> list[ProfileStore]:
    """Return the stores that exist of the wanted entities; at least one."""
    from recbole_llmkt.profiles.hook import profile_folder

    folder = profile_folder(config, None if entity == "both" else entity)
    stores = [ProfileStore(folder, one) for one in both(entity)]
    return [store for store in stores if store.exists()]
