"""What a comparison runs: models x arms x seeds, each with its resolved configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recbole_llmkt.config import Config, warn_unknown
from recbole_llmkt.datasets.loading import files_digest
from recbole_llmkt.evaluation.slices import DEFAULT as DEFAULT_SLICES
from recbole_llmkt.experiment.runs.arms import arm_settings
from recbole_llmkt.experiment.runs.records import RunKey, Winner
from recbole_llmkt.experiment.runs.settings import deciding_settings, digest
from recbole_llmkt.keys.combinations import check_one_process
from recbole_llmkt.keys.table import ADDRESS_KEYS
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.types import Settings


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
        The whole configuration, as plain values, as files and presets were when the run was
        planned: they may be edited while it waits.
    settings : dict
        Every key that decides the result, resolved.
    digest : str
        SHA-256 of ``settings``, 16 hexadecimal digits.
    epochs : int
        The most epochs.
    model_path : str
        The model as given: its name, or a class path.
    changes : dict
        Keys and values over ``given`` that ``settings`` does not include: those of a trial.
    tuned : Winner, optional
        Where its tuned keys come from.
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
    given: Settings = field(repr=False)
    settings: Settings = field(repr=False)
    digest: str
    epochs: int
    model_path: str
    changes: Settings = field(default_factory=dict)
    tuned: Winner | None = field(default=None, repr=False)
    label: str = ""
    arm_keys: tuple[str, ...] = ()
    data: str = ""

    @property
    def key(self) -> RunKey:
        """Return what identifies this run in its comparison."""
        return (self.model, self.arm, self.seed, self.dataset)

    @property
    def name(self) -> str:
        """Return a short name, also that of the run's folder."""
        return f"{self.model}-{self.arm}-{self.label or self.seed}"

    def epochs_until(self, validated: int) -> int:
        """Return how many epochs were trained if the last validation was after ``validated``.

        Early stopping ends a run at a validation; otherwise epochs may follow the last one.
        """
        step = int({**self.settings, **self.changes}["eval_step"])
        last = int({"epochs": self.epochs, **self.changes}["epochs"])
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
    """What to compare.

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
        For (model, arm) what tuning chose.
    """

    models: Sequence[str]
    arms: Sequence[str]
    seeds: Sequence[int]
    dataset: str
    config_files: Sequence[str] = ()
    overrides: Settings = field(default_factory=dict)
    own_arms: Mapping[str, Settings] = field(default_factory=dict)
    tuned: Mapping[tuple[str, str], Winner] = field(default_factory=dict)

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
                f"--seed={self.overrides['seed']} is the seed of a single run; a comparison takes "
                "--seeds."
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

    def preset(self) -> str | None:
        """Return the preset of all runs; runs themselves hold its values, and not its name."""
        files = [str(Path(file).resolve()) for file in self.config_files]
        config = Config(self.models[0], self.dataset, files, self.overrides, command_line=[])
        preset: str | None = config["kt_preset"]
        return preset

    def _run(self, model: str, arm: str, seed: int, known: set[str]) -> Run:
        tuned = self.tuned.get((model.rpartition(".")[2], arm))
        files = [str(Path(file).resolve()) for file in self.config_files]
        overlay = {**arm_settings(arm, self.own_arms), **(tuned.keys if tuned else {})}
        values = {**self.overrides, **overlay, "seed": seed}
        config = Config(model, self.dataset, files, values, command_line=[])
        check_one_process(config)
        settings = deciding_settings(config)
        known.update(config.internal_config_dict)
        given = config.plain()
        # What is run needs the password of an address; `given` goes to no file.
        given.update({key: config[key] for key in ADDRESS_KEYS})
        if not config.says("kt_slices"):
            given["kt_slices"] = list(DEFAULT_SLICES)
        if given["kt_fast_ranking"] is None:
            given["kt_fast_ranking"] = True  # of base, too: all arms alike
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
        tuned_keys = {key for winner in self.tuned.values() for key in winner.keys}
        if clashes := sorted(tuned_keys & {*self.overrides}):
            raise ConfigError(
                f"{', '.join(clashes)} was tuned: leave it out, or compare without --tuned."
            )


def _check_names(what: str, values: Sequence[str | int]) -> None:
    if not values:
        raise ConfigError(f"No {what} is given: a comparison needs at least one.")
    repeated = sorted(str(value) for value, count in Counter(values).items() if count > 1)
    if repeated:
        raise ConfigError(f"Given twice: {what} {', '.join(repeated)}. Name each {what} once.")
