"""The command ``llmkt train``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from recbole_llmkt.cli.options import ANY_KEY, config_files_option, warn_unused_file
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.terminal import INTERRUPTED, echo
from recbole_llmkt.utils.text import shown_command

if TYPE_CHECKING:
    from recbole_llmkt.config import Config
    from recbole_llmkt.training.result import Result


@click.command(context_settings=ANY_KEY)
@click.option("--model", "-m", required=True, help="A RecBole model, or package.module.Class.")
@click.option("--dataset", "-d", required=True, help="The dataset's name.")
@config_files_option
@click.option("--saved/--no-saved", default=True, help="Keep the best checkpoint and test it.")
@click.option(
    "--resume",
    metavar="CHECKPOINT",
    type=click.Path(exists=True, dir_okay=False),
    help="Resume an interrupted run: the same command, with the checkpoint that it left.",
)
@click.option(
    "--from",
    "start_from",
    metavar="CHECKPOINT",
    type=click.Path(exists=True, dir_okay=False),
    help="Start with the weights of an earlier model, on the data of today.",
)
@click.argument("keys", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def train(
    context: click.Context,
    model: str,
    dataset: str,
    config_files: list[str],
    saved: bool,
    resume: str | None,
    start_from: str | None,
    keys: tuple[str, ...],
) -> None:
    """Train and test one model.

    Any RecBole, kt_ or profile_ key goes as --key=value. Ctrl-C (or SIGTERM) keeps the checkpoint
    of the best epoch so far; the same command with --resume=CHECKPOINT continues after that epoch.
    --from=CHECKPOINT begins a new run with the rows that a model has learned, each by its id: data
    and settings may have changed since. --nproc=2 trains with two processes: each has a GPU, or all
    train on the CPU.

    \b
    Example:
      llmkt train --model=NeuMF --dataset=ml-100k --config-files=my.yaml --kt_weight=0.3
    """  # noqa: D301 - click reads the control character
    if resume and start_from:
        raise ConfigError("--resume and --from exclude each other: choose one.")
    from recbole_llmkt.cli.overrides import parse_overrides
    from recbole_llmkt.config import Config
    from recbole_llmkt.quick_start import run
    from recbole_llmkt.training.stopping import Interrupted

    values = parse_overrides(keys)
    config = Config(model, dataset, config_files, values, command_line=[])
    warn_unused_file(config, config_files)
    logging.getLogger().handlers.clear()  # RecBole sets up its own
    given = [f"--config-files={file}" for file in config_files] + list(keys)
    try:
        result = run(
            *(model, dataset, config_files, values, saved),
            nproc=config["nproc"] or 1,
            port=str(config["port"] or "5678"),
            resume=resume,
            start_from=start_from,
            command_line=[],
        )
    except Interrupted as interrupted:
        same = ["llmkt", "train", f"--model={model}", f"--dataset={dataset}", *given]
        command = shown_command([*same, f"--resume={interrupted.checkpoint}"])
        echo(
            f"Interrupted. {interrupted.checkpoint} holds the best epoch so far. To "
            f"resume:\n  {command}",
            err=True,
        )
        context.exit(INTERRUPTED)
    _show(result, config)
    if result["checkpoint"]:
        echo(f"Checkpoint: {result['checkpoint']}")
        echo("Next:")
        has_test = result["test_result"] is not None
        for command in _next_commands(config, result["checkpoint"], given, has_test):
            echo(f"  {command}")


def _show(result: Result, config: Config) -> None:
    if result["test_result"] is None and result["best_valid_result"] is None:
        echo(
            f"Trained on all interactions for {config['epochs']} epochs: the split has no "
            "validation and no test part, so nothing stopped it earlier and nothing was measured."
        )
    elif result["test_result"] is None:
        echo("The split has no test part. Best validation:")
    for metric, value in (result["test_result"] or result["best_valid_result"] or {}).items():
        echo(f"{metric}: {value}")
    for part in result["slices"]:
        values = ", ".join(f"{name}: {value:.4f}" for name, value in part["metrics"].items())
        echo(f"{part['part']} ({part['bounds']}; {part['users']} users): {values}")


def _next_commands(
    config: Config, checkpoint: str, given: Sequence[str], has_test: bool
) -> list[str]:
    """Return commands that recommend with a checkpoint, and that compare its run with the base.

    Where there is no test part to compare on, the second one exports all lists.
    """
    from recbole.utils import ModelType

    from recbole_llmkt.checkpoints import needs_trust

    settings = config.plain()
    trust = ["--trust"] if needs_trust(settings) else []
    recommend = [f"--checkpoint={checkpoint}", "--users=all", "--output=recommended.txt", *trust]
    commands = []
    if config["MODEL_TYPE"] != ModelType.DECISIONTREE:
        commands.append(["recommend", *recommend])
        if not has_test:
            lists = [f"--checkpoint={checkpoint}", "--topk=10", "--output=top10.csv", *trust]
            commands.append(["export", *lists])
    if has_test and config["MODEL_TYPE"] not in (ModelType.DECISIONTREE, ModelType.TRADITIONAL):
        fixed = ("--kt_enabled=", "kt_enabled=", "--seed=", "seed=")  # compare sets them
        models = [f"--models={settings['model']}", f"--dataset={config.dataset}"]
        keys = [key for key in given if not key.startswith(fixed)]
        arms = ["--arms=base,kt,shuffled", "--seeds=1,2,3", "--output=out"]
        commands.append(["compare", *models, *keys, *arms])
    return [shown_command(["llmkt", *command]) for command in commands]
