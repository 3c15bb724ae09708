"""The chosen settings on all data: nothing is held out, and nothing is left to choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

from recbole_llmkt.checkpoints import load_checkpoint
from recbole_llmkt.config import Config
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.tuning.winners import TunedStudy, tuned_plan
from recbole_llmkt.quick_start import train
from recbole_llmkt.training.continuing import open_checkpoint
from recbole_llmkt.training.result import Result
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.types import Settings

logger = getLogger(__name__)


@dataclass(frozen=True)
class Chosen:
    """What was chosen by validation.

    Attributes
    ----------
    config : Config
        The settings of the run.
    epochs : int
        How many epochs its best model was trained for.
    switch : int
        How many of them were phase 1; 0 without transfer.
    """

    config: Config
    epochs: int
    switch: int

    @classmethod
    def by_checkpoint(
        cls, path: str, overrides: Mapping[str, object] | None = None, trust: bool = False
    ) -> Chosen:
        """Return the settings and the epochs of a run's best checkpoint.

        Parameters
        ----------
        path, overrides, trust
            See :func:`~recbole_llmkt.quick_start.load_data_and_model`.
        """
        checkpoint, config, _ = open_checkpoint(path, overrides, trust, to_train=True)
        return cls(config, int(checkpoint["epoch"]) + 1, int(checkpoint["transfer"]["switch"]))

    @classmethod
    def by_study(
        cls,
        folder: Path,
        model: str | None = None,
        arm: str | None = None,
        overrides: Settings | None = None,
        trust: bool = False,
    ) -> Chosen:
        """Return the settings of a study's winner; it is trained once to find its best epoch.

        Parameters
        ----------
        folder : Path
            The ``--output`` of ``llmkt tune``.
        model, arm : str, optional
            Which of those that were tuned; needed where there are several.
        overrides : mapping, optional
            Keys and values over those of the tuning.
        trust : bool
            See :func:`~recbole_llmkt.experiment.tuning.winners.tuned_plan`.

        Raises
        ------
        ConfigError
            Several models or arms were tuned, and none is named.
        DataError
            There is no study in the folder, or no winner.
        """
        study = TunedStudy.read(folder)
        if not trust:
            given = [model] if model else []
            study.check_trust(Plan(given, [], [], "", overrides=overrides or {}))
        tuned = study.file.studies.values()
        models = list(dict.fromkeys(each.model_path for each in tuned))
        path = _named("model", model, models)
        arms = [each.arm for each in tuned if each.model_path == path]
        wanted = Plan(
            [path], [_named("arm", arm, arms)], [study.file.seed], "", (), overrides or {}
        )
        (run,) = tuned_plan(folder, wanted, trust=True).runs()
        config = run.config()
        logger.info("Training %s once with its validation part, to find its best epoch.", run.name)
        result = train(config, verbose=False, evaluate_test=False)
        best = load_checkpoint(str(result["checkpoint"]))
        return cls(config, int(best["epoch"]) + 1, int(best["transfer"]["switch"]))


def _named(what: str, name: str | None, tuned: Sequence[str]) -> str:
    fitting = [each for each in tuned if name in (None, each, each.rpartition(".")[2])]
    if len(fitting) == 1:
        return fitting[0]
    given = "" if name is None else f", not '{name}'"
    raise ConfigError(
        f"The study tuned the {what}s {', '.join(tuned)}{given}: choose one with --{what}=NAME."
    )


def refit(chosen: Chosen) -> Result:
    """Train with the chosen settings and epochs on all interactions.

    Parameters
    ----------
    chosen : Chosen
        The settings.

    Returns
    -------
    dict
        As of :func:`~recbole_llmkt.quick_start.train`; nothing is validated or tested.

    Raises
    ------
    ConfigError
        The data come in separate files of their parts.
    """
    config = chosen.config
    if config["benchmark_filename"]:
        parts = ", ".join(config["benchmark_filename"])
        raise ConfigError(
            f"The data come in separate files ({parts}), and a refit trains on all of them: put "
            f"their lines into {config['dataset']}.inter, and set benchmark_filename: null."
        )
    changes: Settings = {
        "eval_args": {**config["eval_args"], "split": {"RS": [1, 0, 0]}},
        "epochs": chosen.epochs,
    }
    if chosen.switch:
        changes["kt_epochs"] = min(chosen.switch, chosen.epochs)
    logger.info("Training on all interactions for %d epochs.", chosen.epochs)
    refitted = Config(config_dict={**config.plain(), **changes}, command_line=[])
    return train(refitted, verbose=False, evaluate_test=False)
