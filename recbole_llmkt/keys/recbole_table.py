"""RecBole's own keys and what their values may be.

RecBole accepts nearly any value and fails later, perhaps after hours of training.
"""

from __future__ import annotations

import codecs
import dataclasses
import difflib
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from recbole.evaluator import metric_types

from recbole_llmkt.keys.hyperparameters import hyperparameter, properties
from recbole_llmkt.keys.key import Check, Key, shown
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.types import Settings

_METRICS = tuple(metric_types)
_LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam")
_LEVELS = ("debug", "info", "warning", "error", "critical")
# Not user_defined: it stands for an edit of RecBole's own file (data/transform.py).
_TRANSFORMS = ("mask_itemseq", "inverse_itemseq", "crop_itemseq", "reorder_itemseq")
_LONGEST_PART = 100  # of such a name, in bytes
_LONGEST_NAME = 255  # bytes, on the file systems of Linux, macOS and Windows


# ---- rules of single keys ------------------------------------------------------------------------


def _whole(value: object, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value < 2**31


def _number(value: object, low: float) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return low <= value <= 1e9


def _any_case(names: tuple[str, ...]) -> Check:
    def check(value: object) -> str | None:
        good = isinstance(value, str) and value.lower() in names
        near = difflib.get_close_matches(shown(value).lower(), names, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return None if good else f"one of {', '.join(names)}.{hint}"

    return check


def _dataset(value: object) -> str | None:
    name = str(value)
    odd = name in (".", "..") or name != name.strip() or not name.isprintable()
    if odd or not name:
        return "the name of a folder."
    return None if _is_short(name) else f"shorter: at most {_LONGEST_PART} bytes."


def _is_short(part: str) -> bool:
    return len(os.fsencode(part)) <= _LONGEST_PART


def _path(value: object) -> str | None:
    if not isinstance(value, (str, os.PathLike)) or not str(value) or "\0" in str(value):
        return "the path of a folder."
    longest = max((len(os.fsencode(part)) for part in Path(value).parts), default=0)
    return (
        None if longest <= _LONGEST_NAME else f"shorter: a name has at most {_LONGEST_NAME} bytes."
    )


def _metrics(value: str | Sequence[str]) -> str | None:
    names = [value] if isinstance(value, str) else value
    return next((wrong for wrong in map(_any_case(_METRICS), names) if wrong), None)


def _parts(value: str | Sequence[str]) -> str | None:
    names = [value] if isinstance(value, str) else value
    good = all(
        name.isprintable() and not {*name} & {"/", "\\"} and _is_short(name) for name in names
    )
    return (
        None
        if good
        else (
            f"parts of the files' names, without folders, up to {_LONGEST_PART} bytes: part of "
            "dataset.part.inter."
        )
    )


def _benchmark(value: Sequence[str]) -> str | None:
    return _parts(value) if len(value) == 3 else "a list of three names, like [train, valid, test]."


def _gpu_id(value: object) -> str | None:
    numbers = value if isinstance(value, (list, tuple)) else str(value).split(",")
    good = value == "" or all(
        re.fullmatch(r"\s*(-1|\d{1,4})\s*", str(number)) for number in numbers
    )
    words = "GPU numbers, like 0 or '0,1'; '' trains on the CPU."
    return None if good and not isinstance(value, (bool, list)) else words


def _port(value: object) -> str | None:
    good = str(value).isdecimal() and 0 < int(str(value)) < 2**16
    return None if good else "a port's number, from 1 to 65535."


def _encoding(value: str) -> str | None:
    try:
        "".encode(value)
        codecs.lookup(value)
    except (LookupError, TypeError, ValueError):
        return "an encoding that Python knows, like utf-8 or latin-1."
    return None


def _topk(value: object) -> str | None:
    sizes = value if isinstance(value, list) else [value]
    good = bool(sizes) and all(_whole(size, 1) for size in sizes)
    return None if good else "an integer of 1 or more, or a list of them, like [10, 20]."


def _interval(value: object) -> str | None:
    """Check intervals like ``[5,inf)`` or ``[0,2];(5,10]``."""
    words = "an interval like '[5,inf)', or several like '[0,2];(5,10]'."
    for part in str(value).split(";"):
        match = re.fullmatch(r"\s*[\[(]\s*([^,\s]+)\s*,\s*([^,\s]+)\s*[\])]\s*", part)
        try:
            low, high = (float(end) for end in match.groups()) if match else (1.0, 0.0)
        except ValueError:
            return words
        if not low <= high:  # not a number, either
            return words
    return None


def _mapping(example: str, rule: Check) -> Key:
    """Return a key that takes a mapping; what the rule says of it is a sentence."""

    def check(value: object) -> str | None:
        return rule(value) if isinstance(value, Mapping) else f"a mapping, like {example}."

    return Key("", "mapping", optional=True, rule=check)


def _val_interval(value: Settings) -> str | None:
    for column, allowed in value.items():
        if isinstance(allowed, str):
            wrong = _interval(allowed)
        else:
            wrong = None if isinstance(allowed, (list, tuple)) else "an interval or a list."
        if wrong:
            return f"'{shown(column)}: {shown(allowed)}': the value must be {wrong}"
    return None


def _threshold(value: Settings) -> str | None:
    good = len(value) == 1 and all(_number(least, -1e9) for least in value.values())
    return None if good else "it takes one column and a number, like {rating: 4}."


def _load_col(value: Settings) -> str | None:
    wrong = _columns(value)
    if wrong or value.get("inter"):
        return wrong
    return "it needs the columns of the .inter file, like {inter: [user_id, item_id]}."


def _columns(value: Settings) -> str | None:
    for suffix, columns in value.items():
        if isinstance(suffix, str) and _parts(suffix):
            return f"'{shown(suffix)}': the value must be {_parts(suffix)}"
        listed = isinstance(columns, (list, tuple)) and all(isinstance(c, str) for c in columns)
        if not (isinstance(suffix, str) and (columns == "*" or listed)):
            return f"'{shown(suffix)}: {shown(columns)}': the value must be a list of columns."
    return None


def _clipping(value: Settings) -> str | None:
    known = ("max_norm", "norm_type", "error_if_nonfinite", "foreach")
    good = _number(value.get("max_norm"), 1e-12) and set(value) <= {*known}
    norm = value.get("norm_type", 2)
    switches = (value.get("error_if_nonfinite", False), value.get("foreach", False))
    if good and (norm == math.inf or _number(norm, 1e-12)) and {*map(type, switches)} == {bool}:
        return None
    return (
        "it takes max_norm above 0, and optionally norm_type above 0 and error_if_nonfinite, like "
        "{max_norm: 5}."
    )


def _each(good: Callable[[object], bool], words: str) -> Check:
    """Return a rule for a mapping whose values are all good."""

    def check(value: Settings) -> str | None:
        for column, setting in value.items():
            if not good(setting):
                return f"'{shown(column)}: {shown(setting)}': the value must be {words}."
        return None

    return check


def _is_discretization(way: object) -> bool:
    way = way if isinstance(way, Mapping) else {}
    return way.get("method") == "LD" or (way.get("method") == "ED" and _whole(way.get("bucket"), 1))


_seq_len = _each(lambda length: _whole(length, 1), "an integer of 1 or more")
_preload = _each(lambda name: isinstance(name, str) and bool(name), "the name of a column")
_discretization = _each(
    _is_discretization,
    "{method: ED, bucket: 5}, with a bucket of 1 or more, or {method: LD}",
)


_SAMPLING: dict[str, tuple[Callable[[object], bool], str]] = {
    "distribution": (
        lambda v: v in ("uniform", "popularity", "None", None),
        "uniform or popularity",
    ),
    "sample_num": (lambda v: _whole(v, 1), "an integer of 1 or more"),
    "alpha": (lambda v: _number(v, 0), "a number of 0 or more"),
    "dynamic": (lambda v: isinstance(v, bool), "True or False"),
    "candidate_num": (lambda v: _whole(v, 0), "an integer of 0 or more"),
}


def _sampling(value: Settings) -> str | None:
    for key, setting in value.items():
        if key not in _SAMPLING:
            return f"there is no '{shown(key)}' in it, but {', '.join(_SAMPLING)}."
        good, words = _SAMPLING[key]
        if not good(setting):
            return f"'{key}: {shown(setting)}': the value must be {words}."
    if "distribution" not in value:
        return "a distribution is missing: uniform or popularity."
    if value.get("dynamic") and not value.get("candidate_num"):
        return "with dynamic: True, candidate_num must be 1 or more."
    return None


def _eval_args(value: Settings) -> str | None:
    checks: dict[str, Check] = {
        "split": _split,
        "group_by": lambda v: None if v in ("user", "none", "None", None) else "user or none",
        "order": lambda v: None if v in ("RO", "TO") else "RO (random) or TO (by time)",
        "mode": _mode,
    }
    for key, setting in value.items():
        if key not in checks:
            near = difflib.get_close_matches(shown(key), checks, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            return f"there is no '{shown(key)}' in it, but {', '.join(checks)}.{hint}"
        wrong = checks[key](setting)
        if wrong:
            return f"'{key}: {shown(setting)}': the value must be {wrong}."
    return None


def _split(value: object) -> str | None:
    if not isinstance(value, dict) or len(value) != 1:
        return "one way to split, like {RS: [0.8, 0.1, 0.1]} or {LS: valid_and_test}"
    way, parts = next(iter(value.items()))
    if way == "LS":
        good = parts in ("valid_and_test", "valid_only", "test_only")
        return None if good else "{LS: valid_and_test}, {LS: valid_only} or {LS: test_only}"
    if way not in ("RS", "TS"):
        return "{RS: ...} (by ratio), {LS: ...} (leave one out) or {TS: ...} (at a point in time)"
    good = isinstance(parts, list) and len(parts) == 3 and all(_number(p, 0) for p in parts)
    if not good or not parts[0] > 0:
        return f"three numbers, training above 0, like {{{way}: [0.8, 0.1, 0.1]}}"
    return None


def _mode(value: object) -> str | None:
    modes = value if isinstance(value, dict) else {"valid": value, "test": value}
    good = modes and all(
        phase in ("valid", "test")
        and isinstance(mode, str)
        and (mode in ("full", "labeled") or re.fullmatch(r"(uni|pop)[1-9]\d{0,6}", mode))
        for phase, mode in modes.items()
    )
    return None if good else "full, labeled, uniN or popN (like uni100)"


# Keys with the same values, and what these may be.
_GROUPS = {
    "use_gpu reproducibility show_progress shuffle repeatable "
    "log_wandb require_pow enable_amp enable_scaler kg_reverse_r valid_metric_bigger "
    "filter_inter_by_user_or_item": Key("", "bool"),
    "normalize_all": Key("", "bool", optional=True),
    "epochs train_batch_size eval_batch_size MAX_ITEM_LIST_LENGTH": Key("", "int", low=1),
    "seed eval_step stopping_step": Key("", "int", low=0),  # eval_step 0 never validates
    "worker": Key("", "int", low=0, high=256),
    "loss_decimal_place metric_decimal_place": Key("", "int", low=0, high=20),
    "learning_rate": Key("", "float", low=0.0, above=True),
    "weight_decay": Key("", "float", low=0.0),
    "data_path checkpoint_dir": Key("", "path", rule=_path),
    "wandb_project field_separator seq_separator LABEL_FIELD LIST_SUFFIX NEG_PREFIX "
    "ITEM_LIST_LENGTH_FIELD valid_metric": Key("", "str"),
    "USER_ID_FIELD ITEM_ID_FIELD TIME_FIELD RATING_FIELD POSITION_FIELD HEAD_ENTITY_ID_FIELD "
    "TAIL_ENTITY_ID_FIELD RELATION_ID_FIELD ENTITY_ID_FIELD": Key("", "str", optional=True),
    "load_col": _mapping("{inter: [user_id, item_id]}", _load_col),
    "unload_col unused_col": _mapping("{inter: [user_id, item_id]}", _columns),
    "seq_len": _mapping("{title: 10}", _seq_len),
    "preload_weight": _mapping("{item_id: item_vector}", _preload),
    "discretization": _mapping("{age: {method: ED, bucket: 5}}", _discretization),
    "normalize_field numerical_features alias_of_user_id alias_of_item_id alias_of_entity_id "
    "alias_of_relation_id": Key("", "str", optional=True, many="list"),
    "user_inter_num_interval item_inter_num_interval entity_kg_num_interval "
    "relation_kg_num_interval": Key("", "interval", optional=True, rule=_interval),
    "dataset": Key("", "name", rule=_dataset),
    "gpu_id": Key("", "numbers", rule=_gpu_id),
    "encoding": Key("", "name", optional=True, rule=_encoding),
    "state": Key("", "name", optional=True, rule=_any_case(_LEVELS)),
    "learner": Key("", "name", rule=_any_case(_LEARNERS)),
    "transform": Key("", "str", optional=True, choices=_TRANSFORMS),
    "rm_dup_inter": Key("", "str", optional=True, choices=("first", "last")),
    "metrics": Key("", "str", many="some", rule=_metrics),
    "topk": Key("", "numbers", rule=_topk),
    "benchmark_filename": Key("", "str", optional=True, many="list", rule=_benchmark),
    "additional_feat_suffix": Key("", "str", optional=True, many="some", rule=_parts),
    "tail_ratio": Key("", "float", optional=True, low=0.0, above=True),
    "threshold": _mapping("{rating: 4}", _threshold),
    "val_interval": _mapping("{rating: '[3,inf)'}", _val_interval),
    "clip_grad_norm": _mapping("{max_norm: 5}", _clipping),
    "train_neg_sample_args": _mapping("{distribution: uniform, sample_num: 1}", _sampling),
    "eval_args": dataclasses.replace(_mapping("{order: TO}", _eval_args), optional=False),
}
# Those of a process among several: RecBole's run() sets most of them.
_OF_PROCESSES = {
    "nproc": Key("", "int", optional=True, low=1, high=256),
    "world_size": Key("", "int", optional=True, low=-1, high=65535),
    "local_rank": Key("", "int", optional=True, low=0, high=65535),
    "offset": Key("", "int", optional=True, low=0, high=65535),
    "group_offset": Key("", "int", optional=True, low=0, high=65535),
    "ip": Key("", "str", optional=True),
    "port": Key("", "number", optional=True, rule=_port),
}
RECBOLE_KEYS = {
    name: dataclasses.replace(key, name=name)
    for names, key in _GROUPS.items()
    for name in names.split()
}


def check_processes(count: object, port: object) -> None:
    """Refuse a number of processes, or a port where they meet, before any of them is started.

    Raises
    ------
    ConfigError
        Naming the key and what its value must be.
    """
    check_values({"nproc": count, "port": port}, "")


def check_values(values: Mapping[str, object], model: str) -> None:
    """Refuse values of RecBole's keys that it cannot use.

    Parameters
    ----------
    values : mapping
        The whole configuration.
    model : str
        The model's name: its file in RecBole's properties says which hyperparameters it has.

    Raises
    ------
    ConfigError
        Naming the key and what its value must be.
    """
    defaults = properties("model").get(model, {})
    for name, value in values.items():
        key = RECBOLE_KEYS.get(name) or _OF_PROCESSES.get(name)
        if key is None and name in defaults:
            key = hyperparameter(name, defaults[name])
        wrong = key.refusal(value) if key else None
        if key and key.type == "mapping" and isinstance(value, Mapping) and wrong:
            # The rule names the place in it.
            raise ConfigError(f"{name}: {wrong}")
        if wrong:
            raise ConfigError(f"'{name}: {shown(value)}': the value must be {wrong}")
