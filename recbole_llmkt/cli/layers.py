"""The command ``llmkt layers``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from recbole_llmkt.cli.options import ANY_KEY, config_files_option, warn_unused_file
from recbole_llmkt.utils.terminal import echo

if TYPE_CHECKING:
    from torch import nn

    from recbole_llmkt.config import Config
    from recbole_llmkt.transfer.inspection.catalog import Place
    from recbole_llmkt.utils.types import Loader

HEADER = ("", "layer", "kind", "shape", "rows", "entity", "width", "calls", "trains")


def build(config: Config) -> tuple[nn.Module, Loader]:
    """Make the model of a configuration and the loader of its training split.

    Parameters
    ----------
    config : Config
        A configuration; nothing is trained and no profile is read.

    Returns
    -------
    model, train_data

    Raises
    ------
    LLMKTError
        The dataset or the model cannot be used.
    """
    from recbole.utils import init_seed

    from recbole_llmkt.datasets.loading import load_data
    from recbole_llmkt.training.factory import build_model

    init_seed(config["seed"], config["reproducibility"])
    train_data = load_data(config)[1]
    return build_model(config, train_data._dataset), train_data


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Set rows of text in columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


@click.command(
    context_settings=ANY_KEY,
    epilog="Example: llmkt layers --model=NeuMF --dataset=ml-100k",
)
@click.option("--model", required=True, help="A RecBole model's name or a class path.")
@click.option("--dataset", required=True, help="The dataset's name.")
@config_files_option
@click.option("--json", "as_json", is_flag=True, help="Print the same as JSON.")
@click.option("--all", "everything", is_flag=True, help="List states that mix user and item too.")
@click.argument("keys", nargs=-1, type=click.UNPROCESSED)
def layers(
    model: str,
    dataset: str,
    config_files: list[str],
    as_json: bool,
    everything: bool,
    keys: tuple[str, ...],
) -> None:
    """List where a model's hidden states can be read (kt_layer).

    For each place: its path, what it is, its shape in symbols (B batch rows, U users, I items, N
    nodes, F fields, L sequence length), what the rows mean (kt_rows), whose state it is, its
    width, how often it runs in a step, and how many parameter values a loss there would train.
    An asterisk marks what kt_layer: auto means. Any RecBole key can follow as --key=value.
    """
    import torch

    from recbole_llmkt.config import Config
    from recbole_llmkt.transfer.auxiliary.settings import default_layers
    from recbole_llmkt.transfer.inspection.catalog import catalog
    from recbole_llmkt.utils.exceptions import ConfigError

    arguments = ["--kt_enabled=False", *keys]
    try:
        config = Config(model, dataset, config_files, command_line=arguments)
    except ConfigError as error:
        if "loss_type is CE" not in str(error):
            raise
        # RecBole insists on being told that such a model samples no negatives.
        arguments = ["--train_neg_sample_args=None", *arguments]
        config = Config(model, dataset, config_files, command_line=arguments)
    warn_unused_file(config, config_files)
    # The batches have a dozen rows: more threads would only wait for each other.
    torch.set_num_threads(1)
    network, train_data = build(config)
    places = catalog(network, train_data)
    defaults = default_layers(config, network, train_data, places)
    if not everything:
        places = [place for place in places if place.pure or _is_default(place, defaults)]
    if as_json:
        records = [{**place.as_dict(), "default": _is_default(place, defaults)} for place in places]
        echo(json.dumps(records, indent=1))
        return
    rows: list[tuple[str, ...]] = [HEADER]
    for place in places:
        mark = "*" if _is_default(place, defaults) else ""
        whose = place.entity if place.pure else f"{place.entity} (mixed)"
        numbers = (str(place.width), str(place.calls), f"{place.reach:,}")
        rows.append((mark, place.layer, place.kind, place.shape, place.rows, whose, *numbers))
    echo(table(rows))


def _is_default(place: Place, defaults: Mapping[str, str]) -> bool:
    return place.layer == defaults.get(place.entity)
