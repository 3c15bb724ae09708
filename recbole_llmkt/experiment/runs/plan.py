"""What a comparison runs: models x arms x seeds, each with its resolved configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_llmkt.config import Config, warn_unknown
from recbole_llmkt.datasets.loading import files_digest
from recbole_llmkt.evaluation.slices import DEFAULT as DEFAULT_SLICES
from recbole_llmkt.experiment.runs.arms import arm_settings
from recbole_llmkt.experiment.runs.settings import deciding_settings, digest
from recbole_llmkt.keys.table import ADDRESS_KEYS
from recbole_llmkt.utils.exceptions import ConfigError


@dataclass(frozen=True, eq=False)
class Run:
    """One training run of a comparison.

    Attributes
    ----------
    model, arm, dataset : str
        Names.
    seed : int
        RecBole's ``seed``: the same seed means the same split, batches and negatives in each arm.
    given : dict
        The whole configuration, as plain values: what files and presets said when the run was
        planned. They may be edited while it waits.
    settings : dict
        Every key that decides the result, resolved.
    digest : str
        SHA-256 of ``settings``, 16 hexadecimal digits.
    epochs : int
        Epochs at most.
    model_path : str
        What was given for the model: its name, or a class path.
    changes : dict
        Keys and values over ``given`` that ``settings`` does not tell of: those of a trial.
    tuned : dict, optional
        Where its tuned keys come from (:class:`~recbole_llmkt.experiment.tuning.winners.Winner`).
    label : str
        Last part of the name, where it is not the seed.
    arm_keys : tuple of str
        The keys that the arm's definition or its tuning sets.
    data : str
        Digest of the dataset's atomic files; "" before they are downloaded.
    """

    model: str
    arm: str
    seed: int
    dataset: str
    given: Mapping[str, Any] = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)
    digest: str
    epochs: int
    model_path: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    tuned: Mapping[str, Any] | None = field(default=None, repr=False)
    label: str = ""
    arm_keys: tuple[str, ...] = ()
    data: str = ""

    @property
    def key(self) -> tuple[str, str, int, str]:
        """Return what tells this run from the others of its comparison."""
        return (self.model, self.arm, self.seed, self.dataset)

    @property
    def name(self) -> str:
        """Return a short name, also that of the run's folder."""
        return f"{self.model}-{self.arm}-{self.label or self.seed}"

    def epochs_until(self, validated: int) -> int:
        """Return how many epochs were trained if ``validated`` is that of the last validation.

        Early stopping ends a run at a validation; otherwise epochs may follow the last one.
        """
        step = int(self.changes.get("eval_step", self.settings["eval_step"]))
        last = int(self.changes.get("epochs", self.epochs))
        return last if validated + step > last else validated

    def has_other_data(self, recorded: str) -> bool:
        """Tell whether the dataset's files differ from those of a recorded digest.

        Parameters
        ----------
        recorded : str
            What :func:`~recbole_llmkt.datasets.loading.files_digest` returned then, in this
            version or an earlier one; "" is unknown, and no difference.
        """
        if not self.data or not recorded or recorded == self.data:
            return False
        return recorded != files_digest(
            Path(self.config()["data_path"]), self.dataset, recorded=recorded
        )

    def config(self) -> Config:
        """Make this run's configuration."""
        return Config(config_dict={**self.given, **self.changes}, command_line=[])


@dataclass(frozen=True)
class Plan:
    """What is to be compared.

    Attributes
    ----------
    models, arms : sequence of str
        Names of models and arms.
    seeds : sequence of int
        Seeds, one run of each arm for each.
    dataset : str
        The dataset's name.
    config_files : sequence of str
        YAML files for every run.
    overrides : mapping
        Keys and values over those of the files, for every run.
    own_arms : mapping
        Further arms: keys and values over those of the arm ``kt``.
    tuned : mapping
        For (model, arm) what tuning found: ``keys``, and what records say of it.
    """

    models: Sequence[str]
    arms: Sequence[str]
    seeds: Sequence[int]
    dataset: str
    config_files: Sequence[str] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    own_arms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tuned: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)

    def runs(self) -> list[Run]:
        """Resolve the configuration of every run, before any of them starts.

        Raises
        ------
        ConfigError
            An unknown arm, model or key, a value out of range, a name given twice.
        """
        # Records and folders know a model by the last part of its class path.
        models = [model.rpartition(".")[2] for model in self.models]
        for what, values in (("model", models), ("arm", self.arms), ("seed", self.seeds)):
            _check_names(what, values)
        self._check_tuned()
        if "seed" in self.overrides:
            raise ConfigError(
                f"--seed={self.overrides['seed']} is one run's key; a comparison takes --seeds."
            )
        known: set[str] = set()
        runs = [
            self._run(model, arm, seed, known)
            for model in self.models
            for seed in self.seeds
            for arm in self.arms
        ]
        own = {key for arm in self.arms for key in arm_settings(arm, self.own_arms)}
        warn_unknown({*self.overrides, *own}, known)
        return runs

    def _run(self, model: str, arm: str, seed: int, known: set[str]) -> Run:
        tuned = self.tuned.get((model.rpartition(".")[2], arm))
        files = [str(Path(file).resolve()) for file in self.config_files]
        overlay = {**arm_settings(arm, self.own_arms), **(tuned or {}).get("keys", {})}
        values = {**self.overrides, **overlay, "seed": seed}
        config = Config(model, self.dataset, files, values, command_line=[])
        settings = deciding_settings(config)
        known.update(config.internal_config_dict)
        given = config.plain()
        # What is run needs the password of an address; `given` goes to no file.
        given.update({key: config[key] for key in ADDRESS_KEYS})
        if not config.says("kt_slices"):
            given["kt_slices"] = list(DEFAULT_SLICES)
        return Run(
            model=config["model"],
            arm=arm,
            seed=seed,
            dataset=self.dataset,
            given=given,
            settings=settings,
            digest=digest(settings),
            epochs=int(config["epochs"]),
            model_path=model,
            tuned=tuned,
            arm_keys=tuple(sorted(overlay)),
            data=files_digest(Path(config["data_path"]), self.dataset),
        )

    def _check_tuned(self) -> None:
        twice = {key for one in self.tuned.values() for key in one["keys"]} & {*self.overrides}
        if twice:
            raise ConfigError(
                f"{', '.join(sorted(twice))} was tuned: leave it out, or compare without --tuned."
            )


def _check_names(what: str, values: Sequence[Any]) -> None:
    if not values:
        raise ConfigError(f"No {what} is given: a comparison needs at least one.")
    twice = sorted({str(one) for one in values if list(values).count(one) > 1})
    if twice:
        raise ConfigError(f"Given twice: {what} {', '.join(twice)}. Name each {what} once.")
