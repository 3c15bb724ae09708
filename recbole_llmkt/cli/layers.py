"""The command ``llmkt layers``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from recbole_llmkt.cli.options import ANY_KEY

HEADER = ("", "layer", "kind", "shape", "rows", "entity", "width", "calls", "trains")


def build(config: Any) -> tuple[Any, Any]:
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
@click.option("--config-files", default="", help="YAML files, separated by spaces.")
@click.option("--json", "as_json", is_flag=True, help="Print the same as JSON.")
@click.option("--all", "everything", is_flag=True, help="List states that mix user and item too.")
@click.argument("keys", nargs=-1, type=click.UNPROCESSED)
def layers(
    model: str,
    dataset: str,
    config_files: str,
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
        config = Config(model, dataset, config_files.split(), command_line=arguments)
    except ConfigError as error:
        if "loss_type is CE" not in str(error):
            raise
        # RecBole wants it said that such a model needs no negatives; for a listing it goes without.
        arguments = ["--train_neg_sample_args=None", *arguments]
        config = Config(model, dataset, config_files.split(), command_line=arguments)
    # Experiments with a dozen rows: more threads would only wait for each other.
    torch.set_num_threads(1)
    network, train_data = build(config)
    places = catalog(network, train_data)
    defaults = default_layers(config, network, train_data, places)
    if not everything:
        places = [one for one in places if one.pure or one.layer == defaults.get(one.entity)]
    if as_json:
        records = [
            {**one.as_dict(), "default": one.layer == defaults.get(one.entity)} for one in places
        ]
        click.echo(json.dumps(records, indent=1))
        return
    rows: list[tuple[str, ...]] = [HEADER]
    for one in places:
        mark = "*" if one.layer == defaults.get(one.entity) else ""
        whose = one.entity if one.pure else f"{one.entity} (mixed)"
        numbers = (str(one.width), str(one.calls), f"{one.reach:,}")
        rows.append((mark, one.layer, one.kind, one.shape, one.rows, whose, *numbers))
    click.echo(table(rows))
