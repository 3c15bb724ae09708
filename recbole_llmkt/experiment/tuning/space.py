"""Search spaces: which keys an arm tunes, over which values, and points that all arms share."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import recbole

from recbole_llmkt.config import Config, preset_path, warn_unknown
from recbole_llmkt.experiment.runs.settings import same
from recbole_llmkt.keys.combinations import CLOSED_FORM
from recbole_llmkt.keys.names import hyperparameters
from recbole_llmkt.keys.table import check_keys
from recbole_llmkt.utils import resources
from recbole_llmkt.utils.exceptions import ConfigError, nearest
from recbole_llmkt.utils.parsing import load_yaml
from recbole_llmkt.utils.types import PlainValue, Settings

SECTIONS = ("shared", "transfer", "kar", "closed_form")
# Keys that only arms of one section read, by how they begin.
_KEYS_OF = {"kt_kar_": "kar", "kt_closed_form": "closed_form"}
LEARNING_RATE = {"low": 1e-4, "high": 2e-2, "log": True}
WEIGHT_DECAY = {"low": 1e-7, "high": 1e-4, "log": True}
DROPOUT = {"low": 0.0, "high": 0.7}
# A model's own regularisation is searched this many times below and above its default.
REG_FACTOR = 100.0
# Stands for "the dimension has no such value"; None is a value that a key may take.
UNKNOWN = object()


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, evenly or, with ``log``, evenly in their logarithm.

    Between two integers lie integers.
    """

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether the range is one of integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def at(self, unit: float) -> float:
        """Return the value at ``unit``, from 0 to 1."""
        if self.log:
            value = math.exp(math.log(self.low) + unit * math.log(self.high / self.low))
        else:
            value = self.low + unit * (self.high - self.low)
        return self._within(value)

    def nearest(self, value: object) -> object:
        """Return the value of the range nearest to ``value``; UNKNOWN if that is not a number."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return UNKNOWN
        return self._within(float(value))

    def _within(self, value: float) -> float:
        return min(max(round(value) if self.whole else value, self.low), self.high)

    def plain(self) -> PlainValue:
        """Return the range as a search space file gives it."""
        return {"low": self.low, "high": self.high, "log": self.log}


@dataclass(frozen=True)
class Choices:
    """A choice among values; these are YAML's, so lists are possible."""

    values: tuple[PlainValue, ...]

    def at(self, unit: float) -> PlainValue:
        """Return the value at ``unit``, from 0 to 1."""
        return self.values[min(int(unit * len(self.values)), len(self.values) - 1)]

    def nearest(self, value: object) -> object:
        """Return the choice that equals ``value``; UNKNOWN if there is none."""
        return next((choice for choice in self.values if same(choice, value)), UNKNOWN)

    def plain(self) -> PlainValue:
        """Return the choices as a search space file gives them."""
        return list(self.values)


Dimension = Union[Range, Choices]
Space = dict[str, Dimension]


def search_spaces(
    config: Config, file: Path | None = None, preset: str | None = None
) -> dict[str, Space]:
    """Return the search space of a model by section: see :data:`SECTIONS`.

    An own method's section is called by its class path, as ``kt_method`` is.

    Parameters
    ----------
    config : Config
        A configuration of the model, without transfer.
    file : Path, optional
        A YAML file over ``properties/search/overall.yaml``, ``properties/search/<Model>.yaml`` and
        the preset.
    preset : str, optional
        The ``kt_preset`` of all arms: its section ``search`` counts.

    Raises
    ------
    ConfigError
        Naming the file, the key and the fix.
    """
    model = str(config["model"])
    folder = resources.properties_dir() / "search"
    merged: dict[str, Settings] = {section: {} for section in SECTIONS}
    merged["shared"] = own_keys(config)
    files = [folder / "overall.yaml", folder / f"{model}.yaml"]
    contents = [(path, load_yaml(path)) for path in files if path.is_file()]
    if preset:
        path = preset_path(preset)
        contents.append((path, load_yaml(path).get("search") or {}))
    if file is not None:
        contents.append((file, load_yaml(file)))
    for path, content in contents:
        for section, keys in _sections(path, content, model):
            merged.setdefault(section, {}).update(keys)
            warn_unknown(keys, {*config.internal_config_dict, *hyperparameters()})
    return {
        section: {key: _dimension(key, value) for key, value in keys.items() if value is not None}
        for section, keys in merged.items()
    }


def own_keys(config: Config) -> Settings:
    """Return the search space of a model's own keys, for any model.

    ``learning_rate``; ``reg_weight`` around its default where the model has one, else
    ``weight_decay`` (RecBole warns of the two together); every dropout rate of the model's
    properties file. A model of closed form has neither learning rate nor weight decay.
    """
    path = Path(recbole.__file__).parent / "properties" / "model" / f"{config['model']}.yaml"
    names = load_yaml(path) if path.is_file() else {}
    trained = config["model"] not in CLOSED_FORM
    keys: Settings = {"learning_rate": LEARNING_RATE} if trained else {}
    reg_weight = config["reg_weight"] if "reg_weight" in names else None
    if isinstance(reg_weight, (int, float)) and reg_weight > 0:
        span = {"low": reg_weight / REG_FACTOR, "high": reg_weight * REG_FACTOR, "log": True}
        keys["reg_weight"] = span
    elif trained:
        keys["weight_decay"] = WEIGHT_DECAY
    for name in names:
        if "dropout" in name and isinstance(config[name], (int, float)):
            keys[name] = DROPOUT
    return keys


def _sections(path: Path, content: object, model: str) -> Iterator[tuple[str, Settings]]:
    """Yield the sections of a file, those for all models first."""
    if not isinstance(content, dict) or not _is_settings(content):
        raise ConfigError(f"'{path}': 'search' must hold 'section:' lines, as --space's file does.")
    models = content.pop("models", None) or {}
    if not isinstance(models, dict):
        raise ConfigError(f"'{path}': 'models' must hold a section for each model.")
    for part in (content, models.get(model) or {}):
        for section, keys in part.items():
            if section not in SECTIONS and "." not in str(section):
                raise ConfigError(
                    f"'{path}': unknown section '{section}'; known are {', '.join(SECTIONS)} and "
                    f"models.{nearest(str(section), SECTIONS)}"
                )
            if keys is not None and not _is_settings(keys):
                raise ConfigError(f"'{path}': section '{section}' must hold 'key: values' lines.")
            _check_section(path, str(section), keys or ())
            yield section, dict(keys or {})


def _check_section(path: Path, section: str, keys: Iterable[str]) -> None:
    """Refuse keys that the arms of a section do not read."""
    for key in keys:
        for start, right in _KEYS_OF.items():
            if key.startswith(start) and section != right:
                readers = {"kar": "with kt_method: kar", "closed_form": "of models of closed form"}
                raise ConfigError(
                    f"'{path}': section '{section}' holds {key}, which only arms {readers[right]} "
                    f"read. Move it to the section '{right}'."
                )


def _is_settings(keys: object) -> bool:
    return isinstance(keys, dict) and all(isinstance(key, str) for key in keys)


def _dimension(key: str, value: object) -> Dimension:
    """Read a list of choices or a range, and check that the key takes these values."""
    if key == "kt_preset":
        raise ConfigError("Search space: a preset sets other keys; search those, not 'kt_preset'.")
    if isinstance(value, list) and value:
        ends = value
        dimension: Dimension = Choices(tuple(value))
    elif isinstance(value, dict) and {"low", "high"} <= {*value} <= {"low", "high", "log"}:
        ends = [value["low"], value["high"]]
        dimension = Range(value["low"], value["high"], bool(value.get("log")))
        if not _is_range(dimension):
            raise ConfigError(
                f"Search space, '{key}: {value}': low and high must be numbers, low below high, "
                "and above 0 with log: True."
            )
    else:
        raise ConfigError(
            f"Search space, '{key}: {value}': write a list of choices, or "
            "{low: 0.001, high: 0.1, log: True}."
        )
    for end in ends:
        check_keys({key: end}, "the search space")
    return dimension


def _is_range(span: Range) -> bool:
    numbers = (int, float)
    if not (isinstance(span.low, numbers) and isinstance(span.high, numbers)):
        return False
    finite = math.isfinite(span.low) and math.isfinite(span.high)
    return finite and span.low < span.high and (span.low > 0 or not span.log)


def arm_space(spaces: Mapping[str, Space], config: Config, held: Collection[str]) -> Space:
    """Return the space of an arm: the shared keys, and those of its kind of transfer.

    Parameters
    ----------
    spaces : mapping
        Of :func:`search_spaces`.
    config : Config
        The arm's configuration.
    held : collection of str
        Keys that the arm or the command line fixes.
    """
    sections = ["shared"]
    if config["kt_enabled"]:
        solved = config["kt_closed_form"] != "none"
        sections.append("closed_form" if solved else config["kt_method"])
    return {
        key: dimension
        for section in sections
        for key, dimension in spaces.get(section, {}).items()
        if key not in held
    }


def quasi_random(spaces: Mapping[str, Space], count: int, seed: int) -> list[Settings]:
    """Return points of the whole space, evenly spread: a scrambled Sobol sequence.

    An arm takes its own keys of each point, so all arms of a model get the same values of the keys
    that they share, in the same order.

    Parameters
    ----------
    spaces : mapping
        Of :func:`search_spaces`.
    count : int
        Number of points.
    seed : int
        Seed of the scrambling.
    """
    from scipy.stats import qmc

    dimensions = [item for space in spaces.values() for item in space.items()]
    if not dimensions or count < 1:
        return []
    sobol = qmc.Sobol(len(dimensions), scramble=True, seed=seed)
    table = sobol.random_base2(math.ceil(math.log2(count)))[:count]
    return [
        {key: dimension.at(float(unit)) for (key, dimension), unit in zip(dimensions, row)}
        for row in table
    ]


def plain_space(space: Mapping[str, Dimension]) -> Settings:
    """Return a space as plain values, for files and digests."""
    return {key: dimension.plain() for key, dimension in space.items()}
