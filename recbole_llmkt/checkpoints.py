"""Checkpoints on disk: tensors and plain Python values only, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recbole_llmkt.compat import load_plain, restore_kept, unpack_solution, weights_loaded
from recbole_llmkt.datasets.vocabulary import Vocabulary
from recbole_llmkt.keys.saved import SavedSettings, sort_saved
from recbole_llmkt.utils.exceptions import ConfigError, DataError, LLMKTError
from recbole_llmkt.utils.files import replacing
from recbole_llmkt.utils.text import one_line
from recbole_llmkt.utils.types import Dataset, Settings, State

logger = getLogger(__name__)

# Reasons need the profiles and the encoder that the run had; the rest is only for writing profiles.
_WARNED = ("profile_dir", "profile_encoder", "profile_api_base")
_LONGEST_REASON = 200
_SAME_SIZES = "The model's sizes and the dataset must be those it was trained with."


def save_file(state: State, path: str) -> None:
    """Write a checkpoint in one piece: a reader sees the old file or the new one.

    Raises
    ------
    StorageError
        It cannot be written; an older one is as it was.
    """
    with replacing(Path(path), "checkpoint_dir") as file:
        torch.save(state, file)


def load_checkpoint(path: str, device: torch.device | str = "cpu") -> State:
    """Read a checkpoint of this package; nothing in the file is executed.

    Raises
    ------
    DataError
        The file is missing, broken, or holds anything but tensors and plain values.
    """
    try:
        state = load_plain(path, device)
    except DataError as error:
        raise DataError(
            f"Cannot read the checkpoint '{path}': it must be a file that recbole_llmkt saved, "
            "in PyTorch's zip format, with nothing but tensors and plain values in it."
        ) from error
    except Exception as error:  # torch raises many kinds, all of them meaning: not readable
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        if isinstance(error, KeyError) or not reason:
            reason = "it is not a torch file"
        raise DataError(
            f"Cannot read the checkpoint '{path}': {reason}. It must be a file that recbole_llmkt "
            "saved."
        ) from error
    if not isinstance(state, dict) or not {"config", "state_dict", "transfer"} <= set(state):
        raise DataError(f"'{path}' is not a checkpoint of recbole_llmkt.")
    wrong = _wrong_field(state)
    if wrong:
        raise DataError(
            f"'{path}' is damaged, or no checkpoint of recbole_llmkt: its field {wrong}."
        )
    return state


_Kinds = Mapping[str, "type | tuple[type, ...]"]
# The types of a checkpoint's fields, as far as it has them. What is in them is checked where it is
# put in place (see `fitting`).
_FIELDS: _Kinds = {
    "config": dict,
    "epoch": int,
    "cur_step": int,
    "best_valid_score": (int, float),
    "state_dict": dict,
    "other_parameter": dict,
    "optimizer": dict,
    "transfer": dict,
}
_TRANSFER_FIELDS: _Kinds = {
    "ids": dict,
    "phase": int,
    "switch": int,
    "optimizers": dict,
    "counters": dict,
    "clusters": dict,
    "solved": dict,
    "best_valid_result": (dict, type(None)),
    "best_of_phase_1": (int, float, type(None)),
    "random": dict,
    "loader": list,
    "methods": dict,
    "knowledge": dict,
}


def _wrong_field(state: State) -> str | None:
    """Name a field of another type than this package saves."""
    transfer = state["transfer"] if isinstance(state["transfer"], dict) else {}
    for place, values, kinds in (("", state, _FIELDS), ("transfer.", transfer, _TRANSFER_FIELDS)):
        for name in kinds.keys() & values.keys():
            value = values[name]
            if not isinstance(value, kinds[name]) or isinstance(value, bool):
                return f"'{place}{name}' is a {type(value).__name__}"
            if name == "optimizer" or not isinstance(value, dict):
                continue
            if not all(isinstance(key, str) for key in value):
                return f"'{place}{name}' has a key that is no text"
    return None


@contextmanager
def fitting(path: str, what: str, advice: str) -> Iterator[None]:
    """Turn whatever goes wrong while a checkpoint's values are put in place into one line.

    Parameters
    ----------
    path : str
        The checkpoint.
    what : str
        Where the values go.
    advice : str
        What must hold: a sentence.

    Raises
    ------
    DataError
        The values do not belong there.
    """
    try:
        yield
    except LLMKTError:
        raise
    except Exception as error:  # a file may hold anything, and torch raises many kinds
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = one_line(lines[-1] if lines else type(error).__name__)[:_LONGEST_REASON].rstrip(
            "."
        )
        if isinstance(error, KeyError):
            reason += " is missing"
        raise DataError(f"'{path}' does not fit this {what}: {reason}. {advice}") from error


def saved_settings(
    checkpoint: Settings,
    path: str,
    today: Mapping[str, object],
    trust: bool = False,
    to_train: bool = False,
) -> State:
    """Return the settings of a checkpoint's run, without those that an untrusted file must not set.

    See :mod:`recbole_llmkt.keys.saved`.

    Parameters
    ----------
    checkpoint : mapping
        Of :func:`load_checkpoint`.
    path : str
        Its file, for messages.
    today : mapping
        Current settings, which override the checkpoint's.
    trust : bool
        Take all of the checkpoint's settings as they are.
    to_train : bool
        Whether a model is trained with them, which another loss would make another one.

    Raises
    ------
    ConfigError
        The model, or what it is trained with, is a class path or made from a file, and the
        checkpoint is not trusted.
    """
    saved = dict(checkpoint["config"])
    if trust:
        return {**saved, **today}
    settings = sort_saved({key: saved[key] for key in saved if key not in today}, today)
    _refuse_untrusted(settings, path, to_train)
    named = [key for key in _WARNED if settings.ignored.get(key) is not None]
    if named:
        logger.warning(
            "Ignored in '%s': %s. Pass those you need as --key=value, or --trust "
            "(trust=True) if the file is yours.",
            path,
            ", ".join(named),
        )
    return {**settings.taken, **today}


def _refuse_untrusted(settings: SavedSettings, path: str, to_train: bool) -> None:
    """Refuse what the model, or its training, cannot do without."""
    for key in settings.files:
        raise ConfigError(
            f"'{path}' names the file {settings.ignored[key]!r} as its {key}, which its model is "
            f"made from: pass --{key}=FILE, or --trust (trust=True) if the checkpoint is yours."
        )
    model = ["model"] if "model" in settings.ignored else []
    for key in [*model, *(settings.classes if to_train else [])]:
        raise ConfigError(
            f"'{path}' names the class {settings.ignored[key]!r} as its {key}, and loading it "
            "would import that module and run its code: if the file is yours, pass --trust "
            "(trust=True)."
        )


def needs_trust(settings: Mapping[str, object]) -> bool:
    """Tell whether a checkpoint with these settings is used as in its run only if it is trusted.

    Parameters
    ----------
    settings : mapping
        Those of its run.
    """
    saved = sort_saved(settings, {})
    unused = [key for key in ("model", *_WARNED) if saved.ignored.get(key) is not None]
    return bool(unused or saved.files)


def saved_vocabulary(checkpoint: State, path: str) -> Vocabulary:
    """Return which user or item each row of a checkpoint belongs to.

    Parameters
    ----------
    checkpoint : mapping
        Of :func:`load_checkpoint`.
    path : str
        Its file, for the message.

    Raises
    ------
    DataError
        It holds no ids.
    """
    ids = checkpoint["transfer"].get("ids")
    if ids is None:
        raise DataError(
            f"'{path}' does not say which row belongs to which user and item: it was saved before "
            "checkpoints kept ids, and the atomic files may have changed since. Train again."
        )
    return Vocabulary.unpack(ids, path)


def check_ids(checkpoint: State, dataset: Dataset, path: str) -> None:
    """Refuse weights whose rows belong to other users or items than those of the data.

    Parameters
    ----------
    checkpoint : mapping
        Of :func:`load_checkpoint`.
    dataset : recbole.data.dataset.Dataset
        The data, or a split of them.
    path : str
        The checkpoint's file, for the message.

    Raises
    ------
    DataError
        Naming the first difference.
    """
    difference = saved_vocabulary(checkpoint, path).difference(dataset)
    if difference is not None:
        raise DataError(
            f"'{path}' was trained with ids other than those of these data ({difference}), so "
            "its rows belong to others. load_data_and_model joins them by id; to resume training, "
            "restore the atomic files that it was trained on."
        )


def load_weights(model: nn.Module, checkpoint: State, path: str) -> None:
    """Put a checkpoint's weights and counters into a model.

    Raises
    ------
    DataError
        They do not fit the model.
    """
    with fitting(path, type(model).__name__, _SAME_SIZES):
        extra = checkpoint["transfer"]
        model.load_state_dict(checkpoint["state_dict"])
        other = _moved(checkpoint["other_parameter"], next(model.parameters()).device)
        _check_names(other, getattr(model, "other_parameter_name", None) or ())
        model.load_other_parameter(other)  # type: ignore[operator]
        weights_loaded(model)
        restore_kept(model, extra.get("clusters", {}))
        unpack_solution(model, extra.get("solved", {}), path)
        modules = dict(model.named_modules())
        for name, values in extra["counters"].items():
            _put_counters(modules[name], values)


def _check_names(values: Iterable[str], names: Iterable[str]) -> None:
    foreign = [name for name in values if name not in names]
    if foreign:
        raise ValueError(f"it has no attribute '{foreign[0]}' to load")


def _put_counters(module: nn.Module, values: Mapping[str, float]) -> None:
    for name, number in values.items():
        before = vars(module).get(name)
        counted = before is None if name in vars(module) else not hasattr(module, name)
        if type(number) not in (int, float) or not (counted or type(before) in (int, float)):
            raise ValueError(f"it does not count '{name}'")
        setattr(module, name, number)


def _moved(values: object, device: torch.device) -> Any:
    """Copy tensors, also those in dicts and lists, to a device."""
    if isinstance(values, torch.Tensor):
        return values.to(device)
    if isinstance(values, dict):
        return {key: _moved(value, device) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return type(values)(_moved(value, device) for value in values)
    return values


Counters = dict[str, "dict[str, int | float]"]


def counters(model: nn.Module, start: Counters | None = None) -> Counters:
    """Return the plain numbers that a model's modules hold besides their tensors, by module.

    Some models count their steps in them (MultiVAE's annealing), and ``state_dict`` leaves them
    out.

    Parameters
    ----------
    model : nn.Module
        The model.
    start : dict, optional
        What this returned before training: only what has moved since is a counter, the rest are
        settings (dropout rates, say), which belong to the configuration.
    """
    by_module = {}
    for name, module in model.named_modules():
        before = (start or {}).get(name, {})
        numbers = {
            key: number
            for key, number in vars(module).items()
            if type(number) in (int, float) and (key not in before or before[key] != number)
        }
        if numbers:
            by_module[name] = numbers
    return by_module
