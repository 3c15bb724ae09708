"""The keys this package adds to RecBole's configuration, and what their values may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from recbole_llmkt.utils.exceptions import ConfigError, nearest

PREFIXES = ("kt_", "profile_")
_EVERY_ARM = {"kt_valid_users"}
Check = Callable[[Any], "str | None"]


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


def _list_of(check: Check) -> Check:
    """Accept a list, an empty one too."""

    def check_all(value: Any) -> str | None:
        if not isinstance(value, (list, tuple)):
            return "a list, like [A, B] or []."
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


def _entity(value: Any) -> str | None:
    if isinstance(value, (list, tuple)) and "both" in value:
        return "user or item within a list: [user, item] says both."
    return _each(_choice("user", "item", "both"))(value)


ROWS = ("auto", "batch", "table", "node", "lookup", "field", "field_first", "flat", "time")
LOSSES = ("rmse", "mse", "cosine", "sce", "infonce", "generative", "gram", "softrank")
SLICES = ("history", "cold_users", "tail_items")
TRANSFORMS = ("pca", "pca_whiten", "umap", "random", "none")

CHECKS: dict[str, Check] = {
    "kt_enabled": _boolean,
    "kt_preset": _optional(_text),
    "kt_method": _choice("transfer", "kar"),
    "kt_layer": _each(_text),
    "kt_user_layer": _optional(_text),
    "kt_item_layer": _optional(_text),
    "kt_rows": _each(_choice(*ROWS)),
    "kt_pool": _choice("last", "mean", "exponential", "attention"),
    "kt_entity": _entity,
    "kt_loss": _choice(*LOSSES, class_path=True),
    "kt_temperature": _number(1e-4),
    "kt_mask_ratio": _number(0.0, 1.0),
    "kt_regularizer": _choice("none", "vicreg"),
    "kt_regularizer_weight": _number(0.0),
    "kt_weight": _each(_number(0.0, 1.0)),
    "kt_schedule": _choice("constant", "cosine", "linear"),
    "kt_balance": _choice("fixed", "loss_ratio"),
    "kt_epochs": _phase_length,
    "kt_transform": _choice(*TRANSFORMS),
    "kt_projector": _choice("none", "linear", "mlp", "profile_mlp"),
    "kt_projector_dim": _optional(_number(1, kind=int)),
    "kt_control": _choice("none", "shuffled", "random", "zero"),
    "kt_init": _choice("none", "targets"),
    "kt_init_scale": _number(1e-6),
    "kt_init_tables": _each(_text),
    "kt_hybrid": _choice("none", "linear"),
    "kt_hybrid_scale": _number(1e-6),
    "kt_cold_start": _boolean,
    "kt_cold_threshold": _number(0, kind=int),
    "kt_slices": _list_of(_choice(*SLICES)),
    "kt_tail_share": _number(0.0, 1.0),
    "kt_kar_shared_experts": _number(0, kind=int),
    "kt_kar_own_experts": _number(1, kind=int),
    "kt_kar_hidden": _number(1, kind=int),
    "kt_kar_dropout": _number(0.0, 1.0),
    "kt_freeze_phase1": _texts,
    "kt_freeze_phase2": _texts,
    "kt_seed": _optional(_number(0, kind=int)),
    "kt_valid_users": _optional(_number(1, kind=int)),
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


def is_knowledge_key(key: str) -> bool:
    """Tell whether a key is about knowledge transfer alone: stock RecBole trains without it."""
    return key.startswith(PREFIXES) and key not in _EVERY_ARM


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
