"""Configuration: RecBole's, plus this package's keys, checked and parsed without ``eval``."""

from __future__ import annotations

import ast
import copy
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from logging import getLogger
from pathlib import Path
from typing import Any

import yaml
from recbole.config import Config as RecBoleConfig
from recbole.utils import ModelType

from recbole_llmkt import resources
from recbole_llmkt.exceptions import ConfigError, LLMKTError, nearest
from recbole_llmkt.registry import get_model

logger = getLogger(__name__)

PREFIXES = ("kt_", "profile_")
# Solved in closed form, though RecBole does not file it among its traditional models.
CLOSED_FORM = ("NCEPLRec",)
# What RecBole raises where a value makes no sense to it.
_REFUSALS = (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, RuntimeError)
Check = Callable[[Any], "str | None"]


class _Loader(yaml.SafeLoader):  # type: ignore[misc,unused-ignore]
    """YAML's safe loader, reading ``1e-3`` as a number as RecBole's own loader does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def parse_value(text: str) -> Any:
    """Turn a command-line string into a value: a Python literal, a YAML list or dict, or itself.

    Nothing is ever executed.

    Examples
    --------
    >>> parse_value("0.3"), parse_value("1e-3"), parse_value("[BPR, NeuMF]")
    (0.3, 0.001, ['BPR', 'NeuMF'])
    >>> parse_value("__import__('os').getcwd()")
    "__import__('os').getcwd()"
    """
    stripped = text.strip()
    if stripped in _WORDS:
        return _WORDS[stripped]
    try:
        value = ast.literal_eval(stripped)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = _parse_collection(stripped)
    try:
        return value if _is_plain(value) and value is not None else text
    except RecursionError:  # a YAML list that holds itself
        return text


# Not "none": that is a value of several keys.
_WORDS = {
    **dict.fromkeys(("True", "true", "TRUE"), True),
    **dict.fromkeys(("False", "false", "FALSE"), False),
    **dict.fromkeys(("None", "null", "~")),
}


def _parse_collection(text: str) -> Any:
    """Read a YAML list or dict; anything else is None (YAML takes 'on' and '12:30' for values)."""
    if not text.startswith(("[", "{")):
        return None
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of ``key: value`` lines.

    Raises
    ------
    ConfigError
        The file is missing, is no YAML, or holds something else than keys and values.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the configuration file '{path}': {error}.") from error
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"'{path}' is not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"'{path}' must hold 'key: value' lines, not a {type(content).__name__}.")
    return content


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "True or False."


def _number(low: float, high: float = float("inf"), kind: type = float) -> Check:
    limit = f"from {low} to {high}" if high != float("inf") else f"of {low} or more"

    def check(value: Any) -> str | None:
        allowed = (int,) if kind is int else (int, float)
        if not isinstance(value, allowed) or isinstance(value, bool) or not low <= value <= high:
            return f"{'an integer' if kind is int else 'a number'} {limit}."
        return None

    return check


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "a non-empty string."


def _texts(value: Any) -> str | None:
    good = isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value)
    return None if good else "a list of strings."


def _choice(*allowed: str, class_path: bool = False) -> Check:
    def check(value: Any) -> str | None:
        if value in allowed or (class_path and isinstance(value, str) and "." in value):
            return None
        more = " or a class path (my_package.my_module.MyClass)" if class_path else ""
        return f"one of {', '.join(allowed)}{more}.{nearest(str(value), allowed)}"

    return check


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _each(check: Check) -> Check:
    """Accept one value or a list of them."""

    def check_all(value: Any) -> str | None:
        if not isinstance(value, (list, tuple)):
            return check(value)
        if not value:
            return "not an empty list."
        return next((wrong for wrong in map(check, value) if wrong), None)

    return check_all


def _phase_length(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return (
            "a share of `epochs` (a float above 0.0, up to 1.0) or a count (an int of 1 or more)."
        )
    if isinstance(value, int):
        return None if value >= 1 else "a count of 1 or more (kt_enabled: False trains without)."
    return None if 0.0 < value <= 1.0 else "a share above 0.0, up to 1.0 (a count is an int)."


ROWS = ("auto", "batch", "table", "node", "lookup", "field", "field_first", "flat", "time")
LOSSES = ("rmse", "mse", "cosine")
TRANSFORMS = ("pca", "pca_whiten", "umap", "random", "none")

CHECKS: dict[str, Check] = {
    "kt_enabled": _boolean,
    "kt_preset": _optional(_text),
    "kt_layer": _each(_text),
    "kt_user_layer": _optional(_text),
    "kt_item_layer": _optional(_text),
    "kt_rows": _each(_choice(*ROWS)),
    "kt_pool": _choice("last", "mean", "exponential", "attention"),
    "kt_entity": _each(_choice("user", "item", "both")),
    "kt_loss": _choice(*LOSSES, class_path=True),
    "kt_weight": _each(_number(0.0, 1.0)),
    "kt_balance": _choice("fixed", "loss_ratio"),
    "kt_epochs": _phase_length,
    "kt_transform": _choice(*TRANSFORMS),
    "kt_projector": _choice("none", "linear", "mlp"),
    "kt_projector_dim": _optional(_number(1, kind=int)),
    "kt_control": _choice("none", "shuffled", "random"),
    "kt_freeze_phase1": _texts,
    "kt_freeze_phase2": _texts,
    "kt_seed": _optional(_number(0, kind=int)),
    "profile_dir": _optional(_text),
    "profile_allow_leak": _boolean,
    "profile_encoder": _text,
    "profile_encoder_batch_size": _number(1, kind=int),
    "profile_generator": _choice("template", "transformers", "openai", "file", class_path=True),
    "profile_model": _optional(_text),
    "profile_file": _optional(_text),
    "profile_prompt": _text,
    "profile_title_field": _optional(_text),
    "profile_category_field": _optional(_text),
    "profile_text_field": _optional(_text),
    "profile_rating_field": _optional(_text),
    "profile_max_history": _number(1, kind=int),
    "profile_history": _choice("recent", "top_rated", "mixed"),
    "profile_batch_size": _number(1, kind=int),
    "profile_max_tokens": _number(1, kind=int),
    "profile_temperature": _optional(_number(0.0)),
    "profile_seed": _number(0, kind=int),
    "profile_concurrency": _number(1, kind=int),
    "profile_api_base": _optional(_text),
    "profile_api_key_env": _text,
    "profile_timeout": _number(0.0),
    "profile_retries": _number(0, kind=int),
    "profile_device": _text,
    "profile_engine": _choice("local", "ray"),
}


def check_keys(values: Mapping[str, Any], where: str) -> None:
    """Refuse unknown ``kt_``/``profile_`` keys and values out of range.

    Parameters
    ----------
    values : mapping
        Keys and values; keys of RecBole's own are passed over.
    where : str
        Where they come from, for the message.

    Raises
    ------
    ConfigError
        Naming the key, the nearest known key or the allowed range.
    """
    for key, value in values.items():
        if not str(key).startswith(PREFIXES):
            continue
        if key not in CHECKS:
            raise ConfigError(
                f"Unknown key '{key}' in {where}.{nearest(key, CHECKS)} "
                "Every key is listed in properties/overall.yaml."
            )
        wrong = CHECKS[key](value)
        if wrong:
            raise ConfigError(f"'{key}: {value}' in {where}: the value must be {wrong}")


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
        An unknown key, a value out of range, an unknown model or preset, an unreadable file.
    """

    def __init__(
        self,
        model: str | type | None = None,
        dataset: str | None = None,
        config_file_list: Sequence[str] | None = None,
        config_dict: Mapping[str, Any] | None = None,
        command_line: Sequence[str] | None = None,
    ) -> None:
        self._command_line = command_line
        try:
            super().__init__(model, dataset, config_file_list, dict(config_dict or {}))
        except LLMKTError:
            raise
        except _REFUSALS as error:
            raise ConfigError(f"RecBole refuses the configuration: {error}") from error

    # ---- reading what the user gave ------------------------------------------------------------

    def _convert_config_dict(self, config_dict: dict[str, Any]) -> dict[str, Any]:
        return {
            key: parse_value(value) if isinstance(value, str) else value
            for key, value in config_dict.items()
        }

    def _load_config_files(self, file_list: Sequence[str] | None) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for file in file_list or []:
            content = load_yaml(file)
            check_keys(content, f"'{file}'")
            merged.update(content)
        return merged

    def _load_variable_config_dict(self, config_dict: dict[str, Any] | None) -> dict[str, Any]:
        values = self._convert_config_dict(config_dict or {})
        check_keys(values, "config_dict")
        return values

    def _load_cmd_line(self) -> dict[str, Any]:
        strict = self._command_line is not None
        arguments = self._command_line
        if arguments is None:
            arguments = [] if "ipykernel_launcher" in sys.argv[0] else sys.argv[1:]
        values: dict[str, Any] = {}
        for argument in arguments:
            key, equals, value = argument.partition("=")
            if key.startswith("--") and equals:
                values[key[2:]] = parse_value(value)
            elif strict:
                raise ConfigError(f"Cannot read '{argument}': write --key=value.")
            else:
                # The running program may have flags of its own.
                logger.warning("Passing over the argument '%s': it is no --key=value.", argument)
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
        if "/" in str(dataset) or "\\" in str(dataset):
            raise ConfigError(
                f"dataset: {dataset} is a path: give the name of its folder alone, and the folder "
                "that holds it as data_path."
            )
        model_class = get_model(model) if isinstance(model, str) else model
        assert isinstance(model_class, type)
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
            self._overlay(_preset_path(preset), model)

    def _overlay(self, path: Path, model: str | None = None) -> None:
        """Put a file of ours over RecBole's defaults; ``eval_args`` are merged key by key."""
        content = load_yaml(path)
        content.update(content.pop("models", {}).get(model, {}))
        check_keys(content, f"'{path}'")
        eval_args = content.pop("eval_args", None)
        if eval_args:
            known = self.internal_config_dict.get("eval_args") or {}
            content["eval_args"] = {**known, **eval_args}
        self.internal_config_dict.update(content)

    def _get_final_config_dict(self) -> dict[str, Any]:
        final: dict[str, Any] = super()._get_final_config_dict()
        self._given = copy.deepcopy(final)
        if not final.get("data_path"):
            raise ConfigError("'data_path' is empty: name the folder that holds the dataset.")
        untrained = self.model_class.type in (ModelType.TRADITIONAL, ModelType.DECISIONTREE)
        if untrained or self.model in CLOSED_FORM:
            final["kt_enabled"] = self._refuse_untrained(final)
        return final

    def _refuse_untrained(self, final: Mapping[str, Any]) -> bool:
        if self.external_config_dict.get("kt_enabled", True) is False:
            return False
        raise ConfigError(
            f"{self.model} is not trained by gradient descent, so there is no loss to add the "
            "transfer loss to. Train it with kt_enabled: False, or choose another model."
        )

    # ---- for checkpoints and results ----------------------------------------------------------

    def plain(self) -> dict[str, Any]:
        """Return what this configuration was made from, as plain Python values.

        ``Config(config_dict=config.plain(), command_line=[])`` makes an equal configuration.
        """
        values = {key: _quoted(value) for key, value in self._given.items() if _is_plain(value)}
        return {**values, "model": self.model_path, "dataset": self.dataset}


def _quoted(value: Any) -> Any:
    """Return what :func:`parse_value` turns into ``value``: a string like '0.3' needs quotes."""
    looks_like_more = isinstance(value, str) and parse_value(value) != value
    return repr(value) if looks_like_more else value


def _class_path(model_class: type) -> str:
    if model_class.__module__.startswith("recbole.model."):
        return model_class.__name__
    return f"{model_class.__module__}.{model_class.__qualname__}"


def _preset_path(preset: str) -> Path:
    known = resources.names("presets")
    if preset in known:
        return resources.properties_dir() / "presets" / f"{preset}.yaml"
    if Path(preset).is_file():
        return Path(preset)
    raise ConfigError(
        f"Unknown kt_preset '{preset}': choose one of {', '.join(known)} or give the path "
        f"of a YAML file.{nearest(preset, known)}"
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, Enum):
        return False
    if isinstance(value, dict):
        return all(_is_plain(one) for pair in value.items() for one in pair)
    if isinstance(value, (list, tuple)):
        return all(_is_plain(one) for one in value)
    return value is None or isinstance(value, (bool, int, float, str))
