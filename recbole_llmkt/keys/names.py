"""The names of all keys that anything reads, and misspelled ones."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

import recbole
from recbole.utils.argument_list import (
    dataset_arguments,
    evaluation_arguments,
    general_arguments,
    training_arguments,
)

from recbole_llmkt.keys.hyperparameters import UNLISTED, properties
from recbole_llmkt.keys.key import shown
from recbole_llmkt.keys.recbole_table import RECBOLE_KEYS
from recbole_llmkt.keys.table import KEYS, PREFIXES
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.parsing import load_yaml

_NEAR = 0.8  # of difflib's ratio: 'learing_rate' has .96, 'device' and 'profile_device' .6
# Names from elsewhere, and what they are here.
_ELSEWHERE = {
    "device": "gpu_id (the device of the training; '' is the CPU) or profile_device (that of "
    "language models and encoders)",
    "lr": "'learning_rate'",
    "batch_size": "'train_batch_size'",
    "num_epochs": "'epochs'",
    "n_epochs": "'epochs'",
    "early_stop": "'stopping_step'",
    "patience": "'stopping_step'",
    "optimizer": "'learner'",
    # Those of RecBole before 1.0 and 1.1, which do nothing any more.
    "eval_setting": "'eval_args'",
    "group_by_user": "'eval_args', with group_by: user",
    "split_ratio": "'eval_args', with split: {RS: [0.8, 0.1, 0.1]}",
    "leave_one_num": "'eval_args', with split: {LS: valid_and_test}",
    "neg_sampling": "'train_neg_sample_args'",
    "training_neg_sample_num": "'train_neg_sample_args', with sample_num",
}
# Read by RecBole's code or set by its run(), and named in none of its files.
_UNLISTED = [
    "model",
    "dataset",
    "config_files",
    "encoding",
    "nproc",
    "world_size",
    "local_rank",
    "ip",
    "port",
    "offset",
    "group_offset",
    "verbose",
    "MODEL_TYPE",
    "MODEL_INPUT_TYPE",
    "eval_type",
    "valid_neg_sample_args",
    "test_neg_sample_args",
    "feature_num",
    "MASK_INDEX",
    "MASK_ITEM_SEQ",
    "POS_ITEMS",
    "NEG_ITEMS",
    "CROP_ITEM_SEQ",
    "CROP_ITEM_SEQ_LEN",
    "REORDER_ITEM_SEQ",
    "INVERSE_ITEM_SEQ",
    *UNLISTED,
]


@functools.lru_cache(maxsize=1)
def hyperparameters() -> frozenset[str]:
    """Return every key of RecBole's models."""
    return frozenset().union(*properties("model").values())


@functools.lru_cache(maxsize=1)
def known_names() -> frozenset[str]:
    """Return every key that RecBole or this package reads, whatever the model."""
    overall = load_yaml(Path(recbole.__file__).parent / "properties" / "overall.yaml")
    listed = (general_arguments, training_arguments, evaluation_arguments, dataset_arguments)
    files = [*properties("model").values(), *properties("dataset").values()]
    return frozenset().union(overall, _UNLISTED, RECBOLE_KEYS, KEYS, *listed, *files)


def read_by(model_class: type) -> set[str]:
    """Return the keys that the source of an own model and of its bases reads (``config["key"]``).

    RecBole's own code is left out: it reads names of its own making, too, such as ``device``.
    """
    names: set[str] = set()
    modules = {base.__module__ for base in model_class.__mro__}
    for module in (name for name in modules if not name.startswith("recbole.")):
        try:
            source = inspect.getsource(sys.modules[module])
        except (OSError, TypeError, KeyError):
            continue
        names.update(re.findall(r"""config(?:\.get\(|\[)["']([\w-]+)["']""", source))
    return names


def misspelled(name: str, known: Collection[str]) -> str | None:
    """Return what an unknown key must have meant, quoted or in words; None if that is unclear."""
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    lowered = {key.lower(): key for key in known}
    near = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=_NEAR)
    return f"'{lowered[near[0]]}'" if near else None


def unknown_names(names: Iterable[str], model_class: type, strict: bool) -> list[str]:
    """Return the keys that nothing reads; refuse those that look like misspelled ones.

    Parameters
    ----------
    names : iterable of str
        What the user gave.
    model_class : type
        The run's model: an own one may read keys of its own.
    strict : bool
        ``kt_strict_keys``; False returns the misspelled ones, too.

    Raises
    ------
    ConfigError
        Naming the key and the one it looks like.
    """
    known = known_names()
    unknown = [name for name in names if name not in known and not name.startswith(PREFIXES)]
    if not unknown:
        return []
    own = read_by(model_class)
    unknown = [name for name in unknown if name not in own]
    for name in unknown if strict else ():
        meant = misspelled(name, {*known, *own})
        if meant:
            raise ConfigError(
                f"Unknown key '{shown(name)}'. Did you mean {meant}? Correct it, or set "
                "kt_strict_keys: False if it is a key of your own."
            )
    return unknown
