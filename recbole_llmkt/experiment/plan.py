"""What a comparison runs: models x arms x seeds, each with its resolved configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_llmkt.config import Config
from recbole_llmkt.exceptions import ConfigError, nearest
from recbole_llmkt.parsing import parse_value

logger = getLogger(__name__)

ARMS: dict[str, dict[str, Any]] = {
    "base": {"kt_enabled": False},
    "kt": {"kt_enabled": True, "kt_control": "none"},
    "shuffled": {"kt_enabled": True, "kt_control": "shuffled"},
    "random": {"kt_enabled": True, "kt_control": "random"},
}

# Keys that say where and how loudly a run works, not what comes out of it.
_NO_MATTER = {
    "checkpoint_dir",
    "data_path",
    "dataloaders_save_path",
    "dataset_save_path",
    "gpu_id",
    "kt_preset",  # the keys it sets count, not its name
    "log_wandb",
    "loss_decimal_place",
    "save_dataloaders",
    "save_dataset",
    "show_progress",
    "state",
    "use_gpu",
    "wandb_project",
    "worker",
}
# Of the profile keys, these decide which knowledge a run gets; the others guide its making.
_KNOWLEDGE = {"profile_dir", "profile_encoder", "profile_allow_leak"}


@dataclass(frozen=True, eq=False)
class Run:
    """One training run of a comparison.

    Attributes
    ----------
    model, arm, dataset : str
        Names.
    seed : int
        RecBole's ``seed``: the same seed means the same split, batches and negatives in each arm.
    config_files : tuple of str
        YAML files, as absolute paths.
    config_dict : dict
        Keys and values over those of the files.
    settings : dict
        Every key that decides the result, resolved.
    digest : str
        SHA-256 of ``settings``, 16 hexadecimal digits.
    epochs : int
        Epochs at most.
    model_path : str
        What was given for the model: its name, or a class path.
    """

    model: str
    arm: str
    seed: int
    dataset: str
    config_files: tuple[str, ...]
    config_dict: Mapping[str, Any]
    settings: Mapping[str, Any] = field(repr=False)
    digest: str
    epochs: int
    model_path: str

    @property
    def key(self) -> tuple[str, str, int, str]:
        """Return what tells this run from the others of its comparison."""
        return (self.model, self.arm, self.seed, self.dataset)

    @property
    def name(self) -> str:
        """Return a short name, also that of the run's folder."""
        return f"{self.model}-{self.arm}-{self.seed}"

    def config(self) -> Config:
        """Make this run's configuration."""
        return Config(
            self.model_path, self.dataset, self.config_files, self.config_dict, command_line=[]
        )


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
    """

    models: Sequence[str]
    arms: Sequence[str]
    seeds: Sequence[int]
    dataset: str
    config_files: Sequence[str] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    own_arms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def runs(self) -> list[Run]:
        """Resolve the configuration of every run, before any of them starts.

        Raises
        ------
        ConfigError
            An unknown arm, model or key, a value out of range, a name given twice.
        """
        for what, values in (("model", self.models), ("arm", self.arms), ("seed", self.seeds)):
            _check_names(what, values)
        arms = {name: self._arm(name) for name in self.arms}
        runs = [
            self._run(model, name, seed, arms[name])
            for model in self.models
            for seed in self.seeds
            for name in self.arms
        ]
        warn_unknown(self.overrides, runs[0].config())
        return runs

    def _arm(self, name: str) -> dict[str, Any]:
        if name in self.own_arms:
            return {**ARMS["kt"], **self.own_arms[name]}
        if name not in ARMS:
            known = [*ARMS, *self.own_arms]
            raise ConfigError(
                f"Unknown arm '{name}': choose among {', '.join(known)}, or define it with "
                f'--arm "{name}: KEY=VALUE ...".{nearest(name, known)}'
            )
        return ARMS[name]

    def _run(self, model: str, arm: str, seed: int, overlay: Mapping[str, Any]) -> Run:
        files = [str(Path(file).resolve()) for file in self.config_files]
        values = {**self.overrides, **overlay, "seed": seed}
        config = Config(model, self.dataset, files, values, command_line=[])
        settings = deciding_settings(config)
        return Run(
            model=config["model"],
            arm=arm,
            seed=seed,
            dataset=self.dataset,
            config_files=tuple(files),
            config_dict=values,
            settings=settings,
            digest=digest(settings),
            epochs=int(config["epochs"]),
            model_path=model,
        )


def _check_names(what: str, values: Sequence[Any]) -> None:
    if not values:
        raise ConfigError(f"No {what} is given: a comparison needs at least one.")
    twice = sorted({str(one) for one in values if list(values).count(one) > 1})
    if twice:
        raise ConfigError(f"Given twice: {what} {', '.join(twice)}. Name each {what} once.")


def deciding_settings(config: Config) -> dict[str, Any]:
    """Return the keys of a configuration that decide the result of a run.

    Paths (but for ``profile_dir``: other profiles are other knowledge), devices and logging are
    left out, and without knowledge transfer its keys too.
    """
    values = {key: value for key, value in config.plain().items() if key not in _NO_MATTER}
    for key in list(values):
        transfer = key.startswith(("kt_", "profile_")) and key != "kt_enabled"
        unused = key.startswith("profile_") and key not in _KNOWLEDGE
        if unused or (transfer and not values["kt_enabled"]):
            del values[key]
    return values


def digest(settings: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of plain values."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Read ``--key=value`` (or ``key=value``) arguments.

    Raises
    ------
    ConfigError
        An argument has another form.
    """
    values = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        key = key[2:] if key.startswith("--") else key
        if not equals or not key.isidentifier():
            raise ConfigError(f"Cannot read '{argument}': write --key=value.")
        values[key] = parse_value(value)
    return values


def warn_unknown(overrides: Mapping[str, Any], config: Config) -> None:
    """Warn of keys that no properties file knows: RecBole would pass over a slip in silence."""
    known = config.internal_config_dict
    for key in overrides:
        if key not in known:
            logger.warning("No properties file has the key '%s'.%s", key, nearest(key, known))
