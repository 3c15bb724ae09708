"""Seconds of a test over all items: RecBole's way and by blocks (``kt_fast_ranking``), paired.

Example: python benchmarks/ranking.py --model=NeuMF --dataset=ml-100k
"""

from __future__ import annotations

import statistics
import sys
import time

import click
import torch

from recbole_llmkt.compat import create_dataset, data_preparation
from recbole_llmkt.config import Config
from recbole_llmkt.training.factory import build_model, get_trainer
from recbole_llmkt.utils.exceptions import LLMKTError


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--model", default="NeuMF", show_default=True)
@click.option("--dataset", default="ml-100k", show_default=True)
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1))
@click.argument("settings", nargs=-1, type=click.UNPROCESSED)
def main(model: str, dataset: str, repeats: int, settings: tuple[str, ...]) -> None:
    """Rank the test part with MODEL as it is initialised; SETTINGS are --key=value."""
    values = {"kt_enabled": False, "state": "ERROR", "show_progress": False}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    results = {}
    for _ in range(repeats):
        for fast, taken in seconds.items():
            given = {**values, "kt_fast_ranking": fast}
            config = Config(model, dataset, config_dict=given, command_line=list(settings))
            torch.manual_seed(0)
            train_data, _, test_data = data_preparation(config, create_dataset(config))
            trainer = get_trainer(config["MODEL_TYPE"], config["model"])(
                config, build_model(config, train_data._dataset)
            )
            trainer.eval_collector.data_collect(train_data)
            begin = time.perf_counter()
            results[fast] = trainer.evaluate(test_data, load_best_model=False)
            taken.append(time.perf_counter() - begin)
    ratios = [slow / fast for slow, fast in zip(seconds[False], seconds[True])]
    click.echo(f"{model} on {dataset}, {torch.get_num_threads()} threads")
    click.echo(f"RecBole {statistics.median(seconds[False]):.1f} s")
    click.echo(f"blocks  {statistics.median(seconds[True]):.1f} s")
    click.echo(f"ratio   {statistics.median(ratios):.2f}")
    click.echo(f"same metrics: {results[False] == results[True]}")


if __name__ == "__main__":
    try:
        main()
    except LLMKTError as error:
        sys.exit(f"Error: {error}")
