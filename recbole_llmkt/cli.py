"""The ``llmkt`` command; what a subcommand needs is imported when it runs."""

from __future__ import annotations

import importlib
import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from recbole_llmkt import __version__
from recbole_llmkt.exceptions import ConfigError, LLMKTError

_ELSEWHERE = {
    "profile": ("recbole_llmkt.profiles.commands", "profile", "Write, check and embed profiles."),
    "layers": ("recbole_llmkt.transfer.commands", "layers", "List the layers of a model."),
    "recommend": ("recbole_llmkt.recommend.commands", "recommend", "Recommend, with reasons."),
}
_ANY_KEY = {"ignore_unknown_options": True, "allow_extra_args": True}


class _Commands(click.Group):
    """A group that imports some of its commands when they run, and shows errors in one line."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted([*super().list_commands(context), *_ELSEWHERE])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _ELSEWHERE:
            return super().get_command(context, name)
        module, attribute, _ = _ELSEWHERE[name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(context):
            known = super().get_command(context, name)
            rows.append((name, known.get_short_help_str() if known else _ELSEWHERE[name][2]))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (LLMKTError, OSError) as error:
            if context.params["debug"]:
                raise
            raise _Refusal(str(error)) from error


class _Refusal(click.ClickException):
    exit_code = 2


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="llmkt")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Knowledge transfer from language models into RecBole's recommenders.

    \b
    Example:
      llmkt compare --models=NeuMF,SimpleX --arms=base,kt --seeds=1,2 --dataset=ml-100k -o out
    """  # noqa: D301 - click reads the control character
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("recbole_llmkt").setLevel(logging.INFO)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # for class paths of the user's own models and losses


def _names(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    return [name.strip() for name in value.split(",") if name.strip()]


def _seeds(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    try:
        return [int(seed) for seed in _names(context, parameter, value)]
    except ValueError as error:
        raise click.BadParameter(f"'{value}' is not a list of integers like 1,2,3.") from error


_config_files = click.option(
    "--config-files", "--config_files", default="", help='YAML files: "a.yaml b.yaml".'
)


@main.command(context_settings=_ANY_KEY)
@click.option("--model", "-m", required=True, help="A RecBole model, or package.module.Class.")
@click.option("--dataset", "-d", required=True, help="The dataset's name.")
@_config_files
@click.option("--saved/--no-saved", default=True, help="Keep the best checkpoint and test it.")
@click.argument("keys", nargs=-1, type=click.UNPROCESSED)
def train(model: str, dataset: str, config_files: str, saved: bool, keys: tuple[str, ...]) -> None:
    """Train and test one model.

    Any RecBole, kt_ or profile_ key goes as --key=value.

    \b
    Example:
      llmkt train --model=NeuMF --dataset=ml-100k --config-files="my.yaml" --kt_weight=0.3
    """  # noqa: D301 - click reads the control character
    from recbole_llmkt.config import Config
    from recbole_llmkt.experiment.settings import parse_overrides, warn_unknown
    from recbole_llmkt.quick_start import train as train_model

    overrides = parse_overrides(keys)
    config = Config(model, dataset, shlex.split(config_files), overrides, command_line=[])
    warn_unknown(overrides, config)
    logging.getLogger().handlers.clear()  # RecBole sets up its own
    result = train_model(config, saved=saved)
    for metric, value in result["test_result"].items():
        click.echo(f"{metric}: {value}")


@main.command(context_settings=_ANY_KEY)
@click.option("--models", required=True, callback=_names, help="Models, separated by commas.")
@click.option("--dataset", "-d", required=True, help="The dataset's name.")
@click.option(
    "--arms",
    default="base,kt,shuffled",
    show_default=True,
    callback=_names,
    help="base (no transfer), kt, the controls shuffled and random, and those of --arm.",
)
@click.option(
    "--arm",
    "own_arms",
    multiple=True,
    metavar="'NAME: KEY=VALUE ...'",
    help="Define an arm: the arm kt with other keys. May be given several times.",
)
@click.option("--seeds", default="1,2,3", show_default=True, callback=_seeds, help="Seeds.")
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Folder.")
@click.option(
    "--jobs",
    "-j",
    type=click.IntRange(min=1),
    help="Runs at a time [default: one per core; one on a GPU].",
)
@_config_files
@click.argument("keys", nargs=-1, type=click.UNPROCESSED)
def compare(
    models: list[str],
    dataset: str,
    arms: list[str],
    own_arms: tuple[str, ...],
    seeds: list[int],
    output: Path,
    jobs: int | None,
    config_files: str,
    keys: tuple[str, ...],
) -> None:
    """Compare arms over models and seeds, and report who won.

    Any RecBole, kt_ or profile_ key goes as --key=value, for every run. Started again, a
    comparison goes on where it stopped.

    \b
    Example:
      llmkt compare --models=NeuMF,SimpleX --arms=base,kt,shuffled --seeds=1,2,3 \\
        --dataset=ml-100k --output=out --epochs=40
      llmkt compare --models=BPR --arms=base,kt,umap --arm "umap: kt_transform=umap" \\
        --dataset=ml-100k --output=out-umap
    """  # noqa: D301 - click reads the control character
    from recbole_llmkt.experiment.compare import compare as run_comparison
    from recbole_llmkt.experiment.plan import Plan
    from recbole_llmkt.experiment.report import make_report
    from recbole_llmkt.experiment.settings import parse_overrides

    plan = Plan(
        models=models,
        arms=arms,
        seeds=seeds,
        dataset=dataset,
        config_files=shlex.split(config_files),
        overrides=parse_overrides(keys),
        own_arms=dict(_own_arm(text) for text in own_arms),
    )
    try:
        records = run_comparison(plan, output, jobs)
    except KeyboardInterrupt:
        raise click.ClickException("Stopped. The same command goes on from here.") from None
    click.echo(f"\n{make_report(output)}\n\n{output / 'report.html'}")
    failed = [record for record in records if record["status"] != "ok"]
    if failed:
        raise click.ClickException(
            f"{len(failed)} of {len(records)} runs failed; what each of them printed is in "
            f"{output / 'runs'}/<run>/output.log. The same command tries them again."
        )


def _own_arm(text: str) -> tuple[str, dict[str, Any]]:
    from recbole_llmkt.experiment.settings import parse_overrides

    name, colon, keys = text.partition(":")
    if not colon or not name.strip() or not keys.strip():
        raise ConfigError(f"Cannot read --arm '{text}': write 'NAME: KEY=VALUE KEY=VALUE'.")
    return name.strip(), parse_overrides(shlex.split(keys))


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(folder: Path) -> None:
    """Make the report of a comparison anew.

    \b
    Example:
      llmkt report out
    """  # noqa: D301 - click reads the control character
    from recbole_llmkt.experiment.report import make_report

    click.echo(f"{make_report(folder)}\n\n{folder / 'report.html'}")
