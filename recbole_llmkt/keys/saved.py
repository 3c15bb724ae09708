"""Which settings of a checkpoint are taken where its file is not trusted: those listed here.

Code to import, servers, keys, files and folders, devices and processes come from the current
settings. The folder of the dataset is the checkpoint's: it is only read, as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from recbole_llmkt.keys.hyperparameters import FILES, UNLISTED, properties
from recbole_llmkt.keys.recbole_table import RECBOLE_KEYS
from recbole_llmkt.keys.table import CACHE_KEYS, KEYS, PROCESS_KEYS
from recbole_llmkt.utils.types import Settings

# Of the machine and of its user.
_LOCAL = {
    "gpu_id",
    "use_gpu",
    "worker",
    "state",
    "show_progress",
    "checkpoint_dir",
    "log_wandb",
    "wandb_project",
    "kt_preset",
    *PROCESS_KEYS,
}
# The caches are taken to be refused.
_DATA_AND_TRAINING = {"model", *RECBOLE_KEYS, *CACHE_KEYS} - _LOCAL
_TRANSFER = {name for name in KEYS if name.startswith("kt_")} - _LOCAL
_OFFLINE_ENCODERS = ("wordllama", "sentence-transformers/all-MiniLM-L6-v2")
_REACHING = {
    "checkpoint_dir",
    "profile_api_base",
    "profile_api_key_env",
    *CACHE_KEYS,
    *PROCESS_KEYS,
}
_SEPARATORS = ("/", "\\", ".", ":", "\0")


class SavedSettings(NamedTuple):
    """The settings of a checkpoint.

    Attributes
    ----------
    taken : dict
        Those that it may set.
    ignored : dict
        The others.
    """

    taken: Settings
    ignored: Settings

    @property
    def files(self) -> list[str]:
        """Return the keys of files that the model is made from."""
        return sorted(key for key in FILES if self.ignored.get(key))

    @property
    def classes(self) -> list[str]:
        """Return the keys of classes that the model is trained with."""
        return sorted(_TRANSFER & self.ignored.keys())


def sort_saved(saved: Mapping[str, object], today: Mapping[str, object]) -> SavedSettings:
    """Sort the settings of a checkpoint into those that it may set and the others.

    Parameters
    ----------
    saved : mapping
        Those of its run.
    today : mapping
        Current settings. A class path among them may read keys of its own, which the checkpoint
        may set to numbers and plain words.
    """
    known = {
        *_DATA_AND_TRAINING,
        *properties("model").get(str(today.get("model", saved.get("model"))), {}),
        *UNLISTED,
        *_TRANSFER,
        "profile_encoder",
    }.difference(FILES)
    own = any(_is_class(key, value) for key, value in today.items())
    taken: Settings = {}
    ignored: Settings = {}
    for key, value in saved.items():
        good = _is_harmless(key, value) if key in known else own and _is_own(key, value)
        (taken if good else ignored)[key] = value
    return SavedSettings(taken, ignored)


def reaches_out(key: str, value: object) -> bool:
    """Tell whether a setting names code, a server, a secret or a file.

    The folders of data and of profiles, which are only read as text and numbers, and encoders of a
    hub are none of these, and what a preset names is for who reads it.
    """
    if key == "profile_encoder":
        name = str(value)
        return name.startswith("openai:") or ("." in name and "/" not in name)
    if key in _REACHING or key in FILES:
        return bool(value)
    return not _is_harmless(key, value)


def _is_class(key: str, value: object) -> bool:
    takes_classes = key == "model" or (key in KEYS and KEYS[key].class_path)
    return takes_classes and (isinstance(value, type) or "." in str(value))


def _is_harmless(key: str, value: object) -> bool:
    if key == "profile_encoder":
        return value in _OFFLINE_ENCODERS
    return not _is_class(key, value)


def _is_own(key: str, value: object) -> bool:
    """Tell whether an unknown key is one of the hyperparameters of a class of today."""
    listed = {*RECBOLE_KEYS, *KEYS, *_LOCAL, *FILES}
    return key not in listed and not key.startswith("profile_") and _is_plain(value)


def _is_plain(value: object) -> bool:
    """Tell whether a value is made of numbers and of words that are no path."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, [*value, *value.values()]))
    if isinstance(value, str):
        return not any(mark in value for mark in _SEPARATORS)
    return value is None or isinstance(value, (bool, int, float))
