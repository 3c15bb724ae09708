"""The commands ``llmkt compare``, ``tune`` and ``report``; each imports what it needs when run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
from typing_extensions import ParamSpec

from recbole_llmkt.cli.options import (
    ANY_KEY,
    LARGEST_SEED,
    config_files_option,
    names,
    split_words,
    trust_option,
    warn_unused_file,
)
from recbole_llmkt.utils.exceptions import ConfigError, DataError
from recbole_llmkt.utils.terminal import echo

if TYPE_CHECKING:
    from recbole_llmkt.experiment.runs.plan import Plan
    from recbole_llmkt.experiment.tuning.trials import TrialRecord
    from recbole_llmkt.utils.types import Settings


def _seeds(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    try:
        seeds = [int(seed) for seed in names(context, parameter, value)]
    except ValueError as error:
        raise click.BadParameter(f"'{value}' is not a list of integers like 1,2,3.") from error
    if not all(0 <= seed <= LARGEST_SEED for seed in seeds):
        raise click.BadParameter(f"'{value}': a seed is from 0 to {LARGEST_SEED}.")
    return seeds


P = ParamSpec("P")
T = TypeVar("T")


def _plan_options(function: Callable[P, T]) -> Callable[P, T]:
    """Add the options of both commands: models, arms, data, output, keys."""
    added = [
        click.option("--models", callback=names, help="Models, separated by commas."),
        click.option("--dataset", "-d", default="", help="The dataset's name."),
        click.option(
            "--arms",
            callback=names,
            help="base (no transfer), kt, its controls shuffled and random, and the arms of --arm "
            "with their controls NAME+shuffled and NAME+random [default: base,kt,shuffled].",
        ),
        click.option(
            "--arm",
            "own_arms",
            multiple=True,
            metavar="'NAME: KEY=VALUE ...'",
            help="Define an arm: the arm kt with other keys. Can be repeated.",
        ),
        click.option(
            "--output", "-o", required=True, type=click.Path(path_type=Path), help="Folder."
        ),
        click.option(
            "--jobs",
            "-j",
            type=click.IntRange(min=1),
            help="Runs at a time [default: one per core; one with a GPU].",
        ),
        config_files_option,
        click.argument("keys", nargs=-1, type=click.UNPROCESSED),
    ]
    for add in reversed(added):
        function = add(function)
    return function


def _plan(
    models: list[str],
    dataset: str,
    arms: list[str],
    own_arms: tuple[str, ...],
    seeds: list[int],
    config_files: list[str],
    keys: Sequence[str],
) -> Plan:
    from recbole_llmkt.cli.overrides import parse_overrides
    from recbole_llmkt.config import Config
    from recbole_llmkt.experiment.runs.plan import Plan

    own = dict(_own_arm(text) for text in own_arms)
    unused = [name for name in own if arms and not {name} & {arm.partition("+")[0] for arm in arms}]
    if unused:
        raise ConfigError(
            f"The arm '{unused[0]}' is defined but not in --arms ({', '.join(arms)}): add it."
        )
    overrides = parse_overrides(keys)
    if models:  # else they are a study's, with its files
        config = Config(models[0], dataset, config_files, overrides, command_line=[])
        warn_unused_file(config, config_files)
    return Plan(
        models=models,
        arms=arms,
        seeds=seeds,
        dataset=dataset,
        config_files=config_files,
        overrides=overrides,
        own_arms=own,
    )


def _own_arm(text: str) -> tuple[str, Settings]:
    from recbole_llmkt.cli.overrides import parse_overrides

    name, colon, keys = text.partition(":")
    if not colon or not name.strip() or not keys.strip():
        raise ConfigError(
            f"Cannot read --arm '{text}': write 'NAME: KEY=VALUE KEY=VALUE' to define an arm; "
            "--arms=NAME,NAME chooses arms."
        )
    return name.strip(), parse_overrides(split_words(keys, f"--arm '{text}'"))


def _complete(models: list[str], dataset: str, arms: list[str]) -> list[str]:
    """Return the arms, or the default ones; models and dataset must be given."""
    for name, value in (("--models", models), ("--dataset", dataset)):
        if not value:
            raise click.UsageError(f"Missing option '{name}'.")
    return arms or ["base", "kt", "shuffled"]


@click.command(context_settings=ANY_KEY)
@_plan_options
@click.option("--seeds", default="1,2,3", show_default=True, callback=_seeds, help="Seeds.")
@click.option(
    "--tuned",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Run the winners in a folder of `llmkt tune`, with its models, arms, data and keys.",
)
@click.option(
    "--allow-unequal",
    is_flag=True,
    help="Compare arms tuned with different numbers of trials.",
)
@trust_option
def compare(
    models: list[str],
    dataset: str,
    arms: list[str],
    own_arms: tuple[str, ...],
    seeds: list[int],
    output: Path,
    jobs: int | None,
    tuned: Path | None,
    allow_unequal: bool,
    trust: bool,
    config_files: list[str],
    keys: tuple[str, ...],
) -> None:
    """Compare arms over models and seeds, and report who won.

    Pass any RecBole, kt_ or profile_ key as --key=value; it holds for every run. The same command
    resumes a comparison that was stopped.

    \b
    Example:
      llmkt compare --models=NeuMF,SimpleX --arms=base,kt,shuffled --seeds=1,2,3 \\
        --dataset=ml-100k --output=out --epochs=40
      llmkt compare --models=BPR --dataset=ml-100k --output=out-umap \\
        --arms=base,umap,umap+shuffled --arm "umap: kt_transform=umap"
      llmkt compare --tuned=study --seeds=1,2,3,4,5 --output=out-tuned
    """  # noqa: D301 - click reads the control character
    from recbole_llmkt.experiment.report.embedding_map import ensure_maps
    from recbole_llmkt.experiment.report.report import make_report
    from recbole_llmkt.experiment.runs.compare import compare as run_comparison

    if tuned is None:
        arms = _complete(models, dataset, arms)
    plan = _plan(models, dataset, arms, own_arms, seeds, config_files, keys)
    if tuned is not None:
        from recbole_llmkt.experiment.tuning.winners import tuned_plan

        plan = tuned_plan(tuned, plan, allow_unequal, trust)
    command = click.get_current_context().find_root().obj or ""
    records = run_comparison(plan, output, jobs, when_done=ensure_maps, command=command)
    echo(f"\n{make_report(output)}\n\n{output / 'report.html'}")
    failed = [record for record in records if not record.ok]
    if failed:
        raise click.ClickException(
            f"{len(failed)} of {len(records)} runs failed; their output is in "
            f"{output / 'runs'}/<run>/output.log. The same command repeats them."
        )


@click.command(context_settings=ANY_KEY)
@_plan_options
@click.option(
    "--trials",
    default=30,
    show_default=True,
    type=click.IntRange(min=1),
    help="Trials per arm.",
)
@click.option(
    "--finalists",
    default=3,
    show_default=True,
    type=click.IntRange(min=0),
    help="How many of an arm's best trials are repeated with two more seeds; 0: none.",
)
@click.option(
    "--seed",
    default=2020,
    show_default=True,
    type=click.IntRange(0, LARGEST_SEED),
    help="Seed of every trial and of the search.",
)
@click.option(
    "--space",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A search space file that overrides the packaged ones.",
)
@click.option("--retry-failed", is_flag=True, help="Repeat failed trials.")
@trust_option
def tune(
    models: list[str],
    dataset: str,
    arms: list[str],
    own_arms: tuple[str, ...],
    trials: int,
    finalists: int,
    seed: int,
    space: Path | None,
    retry_failed: bool,
    trust: bool,
    output: Path,
    jobs: int | None,
    config_files: list[str],
    keys: tuple[str, ...],
) -> None:
    """Tune every arm of every model with the same number of trials, by validation alone.

    The best trials are repeated with two more seeds, and the best mean wins: a single seed is also
    luck. An arm that does worse in validation than base falls back to base's keys, without
    profiles. Keys given as --key=value are held fixed; the first trial starts from the values in
    files. The same command, even with more trials, resumes a study that was stopped.

    \b
    Example:
      llmkt tune --models=NeuMF,SimpleX --arms=base,kt,shuffled --dataset=ml-100k \\
        --trials=30 --output=study --epochs=40
      llmkt compare --tuned=study --seeds=1,2,3,4,5 --output=out
    """  # noqa: D301 - click reads the control character
    from recbole_llmkt.experiment.tuning.finals import Finals
    from recbole_llmkt.experiment.tuning.tune import Tuning
    from recbole_llmkt.experiment.tuning.tune import tune as run_tuning

    arms = _complete(models, dataset, arms)
    plan = _plan(models, dataset, arms, own_arms, [seed], config_files, keys)
    tuning = Tuning(plan, trials, space, Finals(finalists), retry_failed, trust)
    trials_done = run_tuning(tuning, output, jobs)
    echo(f"\n{_winners_table(output, trials_done)}")
    failed = sum(not trial.ok for trial in trials_done)
    if failed:
        echo(
            f"\n{failed} of {len(trials_done)} trials failed, for reasons in "
            f"{output / 'trials.jsonl'}. They count as trials unless --retry-failed repeats them."
        )
    _check_successes(trials_done)


def _check_successes(trials: Sequence[TrialRecord]) -> None:
    succeeded = {(trial.model, trial.arm) for trial in trials if trial.ok}
    errors = {(trial.model, trial.arm): trial.outcome.error for trial in trials if not trial.ok}
    for (model, arm), error in errors.items():
        if (model, arm) not in succeeded:
            raise click.ClickException(
                f"{model}, arm {arm}: no trial succeeded; the last one failed because {error}"
            )


def _winners_table(output: Path, trials: Sequence[TrialRecord]) -> str:
    from tabulate import tabulate

    from recbole_llmkt.experiment.tuning.winners import TunedStudy

    study, rows = TunedStudy.read(output), []
    for model, arm in dict.fromkeys((trial.model, trial.arm) for trial in trials if trial.ok):
        try:
            best = study.winner(model, arm)
        except DataError as error:  # another arm's final round that was stopped
            rows.append([model, arm, "", str(error), ""])
            continue
        keys = ", ".join(f"{key}={_short(value)}" for key, value in best.keys.items())
        counts = f"{best.trials}" + (f" ({best.failed} failed)" if best.failed else "")
        score = f"{best.metric} {best.score:.4f}"
        score += f" (mean of {best.seeds} seeds)" if best.seeds > 1 else ""
        keys = keys or "as configured"
        if best.fell_back:
            keys = f"base's keys: the arm's own are not better by a standard error ({keys})"
        rows.append([model, arm, counts, score, keys])
    headers = ["model", "arm", "trials", "best validation", "with"]
    return str(tabulate(rows, headers, disable_numparse=True))


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(folder: Path) -> None:
    """Write the report of a comparison again.

    \b
    Example:
      llmkt report out
    """  # noqa: D301 - click reads the control character
    from recbole_llmkt.experiment.report.report import make_report

    echo(f"{make_report(folder)}\n\n{folder / 'report.html'}")
