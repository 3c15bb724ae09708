"""The command ``llmkt refit``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from recbole_llmkt.cli.options import ANY_KEY, trust_option
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.terminal import echo


@click.command(context_settings=ANY_KEY)
@click.option(
    "--from",
    "checkpoint",
    type=click.Path(exists=True, dir_okay=False),
    help="The checkpoint of a run whose settings and epochs are taken.",
)
@click.option(
    "--tuned",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder of a study, whose winner's settings are taken.",
)
@click.option("--model", "-m", help="Of the study, where several models were tuned.")
@click.option("--arm", help="Of the study, where several arms were tuned.")
@trust_option
@click.argument("keys", nargs=-1, type=click.UNPROCESSED)
def refit(
    checkpoint: str | None,
    tuned: Path | None,
    model: str | None,
    arm: str | None,
    trust: bool,
    keys: tuple[str, ...],
) -> None:
    """Train the chosen settings on all data, for production: there is no test any more.

    The epochs are those of the best checkpoint. A study keeps none, so its winner is trained once
    with its validation part before.

    \b
    Example:
      llmkt refit --from=saved/BPR.pth
      llmkt refit --tuned=study --model=BPR --arm=kt
    """  # noqa: D301 - \b is click's
    if (checkpoint is None) == (tuned is None):
        raise ConfigError("Name what to refit: either --from=CHECKPOINT or --tuned=STUDY.")
    if checkpoint is not None and (model or arm):
        raise ConfigError("--model and --arm choose within a study: leave them out with --from.")
    from recbole_llmkt.cli.overrides import parse_overrides
    from recbole_llmkt.experiment.tuning.refit import Chosen
    from recbole_llmkt.experiment.tuning.refit import refit as train_on_all

    overrides = parse_overrides(keys)
    if tuned is not None:
        chosen = Chosen.by_study(tuned, model, arm, overrides, trust)
    else:
        chosen = Chosen.by_checkpoint(str(checkpoint), overrides, trust)
    result = train_on_all(chosen)
    phase = f", {chosen.switch} of them with transfer" if chosen.switch else ""
    echo(f"Trained on all interactions for {chosen.epochs} epochs{phase}.")
    echo(f"Checkpoint: {result['checkpoint']}")
    export = ["llmkt", "export", f"--checkpoint={result['checkpoint']}", "--topk=10"]
    echo(f"Next:\n  {shlex.join([*export, '--output=top10.csv'])}")
