"""Configuration: RecBole's, plus this package's keys, checked and parsed without ``eval``."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config as RecBoleConfig
from recbole.utils import ModelType

from recbole_llmkt.compat import (
    check_keys_of_release,
    check_release,
    join_processes,
    numpy_names,
    trains_on_processors,
)
from recbole_llmkt.keys.combinations import CLOSED_FORM, CONFIG_CHECKS, check_together
from recbole_llmkt.keys.key import shown
from recbole_llmkt.keys.names import hyperparameters, unknown_names
from recbole_llmkt.keys.recbole_table import RECBOLE_KEYS, check_values
from recbole_llmkt.keys.table import (
    ADDRESS_KEYS,
    CACHE_KEYS,
    PROCESS_KEYS,
    check_keys,
    without_secrets,
)
from recbole_llmkt.registry import get_model
from recbole_llmkt.utils import resources
from recbole_llmkt.utils.exceptions import ConfigError, nearest, recbole_refusals
from recbole_llmkt.utils.parsing import is_plain, load_yaml, parse_value
from recbole_llmkt.utils.types import Settings

logger = getLogger(__name__)

# Solved in closed form, though RecBole does not file it among its traditional models.
_SOLVED = ("NCEPLRec",)

# Neither trained by gradient descent nor solved from a matrix that profiles could change.
_UNTRAINED = (
    "it is not trained by gradient descent, so there is no loss to add the transfer loss to"
)
_TREES = (
    f"{_UNTRAINED} (a model with embeddings, such as DeepFM, reads profiles as features by "
    "kt_method: kar)"
)
_WITHOUT_PROFILES = {
    "Pop": "it ranks items by their number of interactions alone",
    "Random": "it ranks items at random",
    "XGBoost": _TREES,
    "LightGBM": _TREES,
}

_TEACHERS = ("CIN", "CINComp", "CrossNet", "DAGFM")
# What the model or its metrics say, whatever a file may.
_OWN_OF_MODEL = ("MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type")


class Config(RecBoleConfig):  # type: ignore[misc]
    """RecBole's configuration with the ``kt_*`` and ``profile_*`` keys.

    Values come, the later ones winning, from RecBole's properties, this package's properties
    (``overall.yaml``, ``model/<Model>.yaml``, ``dataset/<name>.yaml``), the preset,
    ``config_file_list``, ``config_dict`` and the command line.

    Parameters
    ----------
    model : str or type, optional
        Name of a RecBole model, class path of another one, or a class.
    dataset : str, optional
        Name of the dataset.
    config_file_list : list of str, optional
        YAML files.
    config_dict : dict, optional
        Keys and values; strings are parsed like the command line.
    command_line : sequence of str, optional
        ``--key=value`` arguments; by default, as in RecBole, those of the running program.

    Raises
    ------
    ConfigError
        An unknown key, a value out of range, an unknown model or preset, an unreadable file,
        settings that do not fit together.

    Attributes
    ----------
    unknown_keys : list of str
        Given keys that this model does not read, and that look like none that it does.
    """

    def __init__(
        self,
        model: str | type | None = None,
        dataset: str | None = None,
        config_file_list: Sequence[str] | None = None,
        config_dict: Mapping[str, object] | None = None,
        command_line: Sequence[str] | None = None,
    ) -> None:
        self._command_line = command_line
        self._eval_args: Settings = {}  # those of our dataset files and presets
        self._preset_keys: set[str] = set()
        # Addresses with a password: RecBole writes all that it finds among its values into logs
        # and TensorBoard's files, so those have the addresses without it.
        self._secrets: dict[str, str] = {}
        check_release()
        # RecBole fills in defaults in place: the caller's values stay as they are.
        values = copy.deepcopy(dict(config_dict or {}))
        refusals = recbole_refusals(
            lambda reason: ConfigError(f"RecBole refuses the configuration: {reason}.")
        )
        with refusals, numpy_names():
            super().__init__(model, dataset, config_file_list, values)

    # ---- reading what the user gave ------------------------------------------------------------

    def _convert_config_dict(self, config_dict: Settings) -> Settings:
        return {
            key: parse_value(value) if isinstance(value, str) else value
            for key, value in config_dict.items()
        }

    def _load_config_files(self, file_list: Sequence[str] | None) -> Settings:
        merged: Settings = {}
        for file in file_list or []:
            content = load_yaml(file)
            if isinstance(content.get("models"), dict):
                raise ConfigError(
                    f"'{file}' has a section for each model ('models'), which a preset may have: "
                    f"give the file as --kt_preset={file}."
                )
            check_keys(content, f"'{file}'")
            merged.update(content)
        return merged

    def _load_variable_config_dict(self, config_dict: Settings | None) -> Settings:
        values = self._convert_config_dict(config_dict or {})
        check_keys(values, "config_dict")
        return values

    def _load_cmd_line(self) -> Settings:
        strict = self._command_line is not None
        arguments = self._command_line
        if arguments is None:
            arguments = [] if "ipykernel_launcher" in sys.argv[0] else sys.argv[1:]
        values: Settings = {}
        for argument in arguments:
            key, equals, value = argument.partition("=")
            if key.startswith("--") and equals:
                values[key[2:]] = parse_value(value)
            elif strict:
                raise ConfigError(f"Cannot read '{argument}': write --key=value.")
            else:
                # The running program may have flags of its own.
                logger.warning("Ignoring the argument '%s': it is not --key=value.", argument)
        check_keys(values, "the command line")
        return values

    # ---- merging ------------------------------------------------------------------------------

    def _get_model_and_dataset(
        self, model: str | type | None, dataset: str | None
    ) -> tuple[str, type, str]:
        model = model if model is not None else self.external_config_dict.get("model")
        dataset = dataset if dataset is not None else self.external_config_dict.get("dataset")
        for name, value in (("model", model), ("dataset", dataset)):
            if value is None or value == "":
                raise ConfigError(f"No {name} is given: pass --{name}=NAME or '{name}: NAME'.")
        if not isinstance(model, (str, type)):
            raise ConfigError(f"'model: {shown(model)}': the value must be a model's name.")
        if isinstance(dataset, bool) or not isinstance(dataset, (str, int)):
            raise ConfigError(
                f"'dataset: {shown(dataset)}': the value must be the name of a folder."
            )
        if "/" in str(dataset) or "\\" in str(dataset):
            raise ConfigError(
                f"dataset: {dataset} is a path: give the name of its folder alone, and the folder "
                "that holds it as data_path."
            )
        wrong = RECBOLE_KEYS["dataset"].refusal(dataset)
        if wrong:
            raise ConfigError(f"'dataset: {shown(dataset)}': the value must be {wrong}")
        model_class = get_model(model) if isinstance(model, str) else model
        self.model_path = model if isinstance(model, str) else _class_path(model_class)
        return model_class.__name__, model_class, str(dataset)

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        super()._load_internal_config_dict(model, model_class, dataset)
        folder = resources.properties_dir()
        self._overlay(folder / "overall.yaml")
        for path in (folder / "model" / f"{model}.yaml", folder / "dataset" / f"{dataset}.yaml"):
            if path.is_file():
                self._overlay(path)
        preset = self.external_config_dict.get("kt_preset")
        if preset:
            self._preset_keys.update(self._overlay(preset_path(preset), model))

    def _update_internal_config_dict(self, file: str) -> Settings:
        content = load_yaml(file)
        self.internal_config_dict.update(content)
        return content

    def _overlay(self, path: Path, model: str | None = None) -> list[str]:
        """Put a file of ours over RecBole's defaults, and return its keys.

        ``eval_args`` are merged key by key.
        """
        content = load_yaml(path)
        content.update(content.pop("models", {}).get(model, {}))
        content.pop("search", None)  # a preset's, for `llmkt tune`: experiment/tuning/space.py
        check_keys(content, f"'{path}'")
        eval_args = content.pop("eval_args", None)
        if eval_args:
            known = self.internal_config_dict.get("eval_args") or {}
            content["eval_args"] = {**known, **eval_args}
            self._eval_args.update(eval_args)
        self.internal_config_dict.update(content)
        return list(content)

    def _get_final_config_dict(self) -> Settings:
        given = self.external_config_dict.get("eval_args")
        if isinstance(given, dict):
            # `eval_args: {mode: uni100}` asks for other candidates, not for another split.
            self.external_config_dict["eval_args"] = {**self._eval_args, **given}
        for key in _OWN_OF_MODEL:
            if key in self.external_config_dict:
                raise ConfigError(f"'{key}' follows from the model and the metrics: leave it out.")
        final: Settings = super()._get_final_config_dict()
        public = without_secrets(final)
        self._secrets = {
            key: final[key] for key in ADDRESS_KEYS if final.get(key) != public.get(key)
        }
        final.update(public)
        self._adapt_to_model(final)
        self._given = copy.deepcopy(final)
        check_keys_of_release(self.model, final)  # 1.2.0 does not know them
        self.unknown_keys = self._keys_without_reader(bool(final["kt_strict_keys"]))
        _refuse_code(final)
        if not final.get("data_path"):
            raise ConfigError("'data_path' is empty: name the folder that holds the dataset.")
        check_values({**final, "dataset": self.dataset}, self.model)
        check_together(final, self.model_class, CONFIG_CHECKS)
        untrained = self.model_class.type in (ModelType.TRADITIONAL, ModelType.DECISIONTREE)
        if untrained or self.model in _SOLVED:
            final["kt_enabled"] = self._with_profiles(final)
        return final

    def _keys_without_reader(self, strict: bool) -> list[str]:
        given = [*self.external_config_dict, *self._preset_keys]
        unknown = unknown_names(given, self.model_class, strict)
        # Files may serve several models; what is given for this one alone should be read by it.
        alone = {**self.variable_config_dict, **self.cmd_config_dict}
        others = hyperparameters().difference(self.internal_config_dict)
        return sorted({*unknown, *others.intersection(alone)})

    def _adapt_to_model(self, final: Settings) -> None:
        """Set what RecBole asks for and does not set itself: its defaults contradict each other."""
        open_loss = not hasattr(self.model_class, "input_type")
        cross_entropy = open_loss and final.get("loss_type") == "CE"
        silent = not self.says("train_neg_sample_args")
        if self.model_class.type == ModelType.SEQUENTIAL and cross_entropy and silent:
            if final["train_neg_sample_args"] is not None:
                logger.info(
                    "%s with loss_type: CE samples no negatives: train_neg_sample_args is set to "
                    "None.",
                    self.model,
                )
            final["train_neg_sample_args"] = None

    def _with_profiles(self, final: Settings) -> bool:
        """Tell whether a model that no gradient trains uses profiles."""
        if self.external_config_dict.get("kt_enabled", True) is False:
            return False
        if self.model not in CLOSED_FORM:
            raise ConfigError(
                f"{self.model} takes no profiles: {_WITHOUT_PROFILES.get(self.model, _UNTRAINED)}. "
                "Set kt_enabled: False, or choose another model."
            )
        if final["kt_closed_form"] == "none":
            raise ConfigError(
                f"{self.model}: {_UNTRAINED}. Set kt_closed_form: {CLOSED_FORM[self.model][0]}, or "
                "kt_enabled: False."
            )
        return True

    def _init_device(self) -> None:
        settings: Settings = self.final_config_dict
        if "local_rank" in settings and trains_on_processors(settings):
            join_processes(settings)
            return
        if "local_rank" in settings:
            _check_gpus(settings)
        super()._init_device()

    def __getitem__(self, item: str) -> Any:
        return self._secrets[item] if item in self._secrets else super().__getitem__(item)

    def __setitem__(self, key: str, value: object) -> None:
        self._secrets.pop(key, None)
        super().__setitem__(key, value)

    # ---- for checkpoints and results ----------------------------------------------------------

    def plain(self) -> Settings:
        """Return what this configuration was made from, as plain Python values.

        ``Config(config_dict=config.plain(), command_line=[])`` makes an equal configuration. What
        ``kt_preset`` said is in the other values: its file may be gone. The place
        of a process among several is left out: a reader would wait for the others. So are user
        and password of an address: they are in no file.
        """
        values = {key: _quoted(value) for key, value in self._given.items() if is_plain(value)}
        values["kt_preset"] = None
        # What nobody set is chosen to fit the number of items.
        chosen = () if self.says("eval_batch_size") else ("eval_batch_size",)
        for key in (*PROCESS_KEYS, *chosen):
            values.pop(key, None)
        return {**values, "model": self.model_path, "dataset": self.dataset}

    def says(self, key: str) -> bool:
        """Tell whether the preset, a file, ``config_dict`` or the command line sets a key."""
        return key in self.external_config_dict or key in self._preset_keys


def _refuse_code(values: Settings) -> None:
    """Refuse values that RecBole would run: caches of data, which are pickles, and expressions."""
    teacher = values.get("teacher")
    if teacher is not None and teacher not in _TEACHERS:  # kd_dagfm.py hands it to eval
        raise ConfigError(f"'teacher: {teacher}': choose one of {', '.join(_TEACHERS)}.")
    for key in CACHE_KEYS:
        if values.get(key):
            raise ConfigError(
                f"'{key}: {values[key]}': RecBole keeps its caches of data as pickles, which can "
                "run any code when they are read. Leave the key out: the atomic files are read."
            )


def _check_gpus(settings: Settings) -> None:
    count, named = settings["nproc"], len(str(settings["gpu_id"]).split(","))
    if named < count or torch.cuda.device_count() < count:
        raise ConfigError(
            f"nproc: {count} needs as many GPUs; gpu_id: {settings['gpu_id']} names {named}, and "
            f"there are {torch.cuda.device_count()}. Name {count}, or set gpu_id: '' to train on "
            "CPUs."
        )


def _quoted(value: object) -> object:
    """Return what :func:`parse_value` turns into ``value``: a string like '0.3' needs quotes."""
    looks_like_more = isinstance(value, str) and parse_value(value) != value
    return repr(value) if looks_like_more else value


def _class_path(model_class: type) -> str:
    if model_class.__module__.startswith("recbole.model."):
        return model_class.__name__
    return f"{model_class.__module__}.{model_class.__qualname__}"


def preset_path(preset: str) -> Path:
    """Return the file of a preset: one of ours by name, or somebody's own by path.

    Raises
    ------
    ConfigError
        There is neither.
    """
    known = resources.names("presets")
    if preset in known:
        return resources.properties_dir() / "presets" / f"{preset}.yaml"
    if os.path.isfile(preset):
        return Path(preset)
    raise ConfigError(
        f"Unknown kt_preset '{preset}': choose one of {', '.join(known)} or give the path "
        f"of a YAML file.{nearest(preset, known)}"
    )


def warn_unknown(keys: Iterable[str], known: Collection[str]) -> None:
    """Warn of keys that no properties file knows: RecBole would silently ignore a typo.

    Parameters
    ----------
    keys : iterable of str
        What the user gave.
    known : collection of str
        The keys of the properties files: ``config.internal_config_dict``.
    """
    for key in keys:
        if key not in known:
            logger.warning("No properties file has the key '%s'.%s", key, nearest(key, known))
