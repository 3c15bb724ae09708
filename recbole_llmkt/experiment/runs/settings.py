"""Which keys decide the result of a run, and their digest."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from recbole_llmkt.config import Config
from recbole_llmkt.keys.table import NO_MATTER, is_knowledge_key
from recbole_llmkt.utils import resources
from recbole_llmkt.utils.parsing import load_yaml

# Of the profile keys, these decide which knowledge a run gets; the others guide its making.
_KNOWLEDGE = {"profile_dir", "profile_encoder", "profile_allow_leak"}


def deciding_settings(config: Config) -> dict[str, Any]:
    """Return the keys of a configuration that decide the result of a run.

    Paths (but for ``profile_dir``: other profiles are other knowledge), devices and logging are
    left out, and without knowledge transfer its keys too.
    """
    values = {key: value for key, value in config.plain().items() if key not in NO_MATTER}
    for key in list(values):
        transfer = is_knowledge_key(key) and key != "kt_enabled"
        unused = key.startswith("profile_") and key not in _KNOWLEDGE
        if unused or (transfer and not values["kt_enabled"]):
            del values[key]
    return values


def digest(settings: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of deciding settings.

    Keys of this package count only where they differ from ``properties/overall.yaml``: results
    recorded before a key existed then have the digest of a run that leaves it at its default.
    """
    return text_digest(not_default(settings))


def not_default(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``settings`` without the keys of this package that have their default value."""
    defaults = _defaults()
    return {
        key: value
        for key, value in settings.items()
        if not (key in defaults and same(value, defaults[key]))
    }


def text_digest(values: Any) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of plain values."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=1)
def _defaults() -> dict[str, Any]:
    return load_yaml(resources.properties_dir() / "overall.yaml")


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are one in JSON: 1 is not True there, and a tuple is a list."""
    return json.dumps(one, default=str) == json.dumps(other, default=str)


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], ignored: Collection[str] = ()
) -> str:
    """Name the first few keys that have another value, with both values; "" if there are none.

    A key of this package that is missing has its default value.
    """
    before, now = not_default(old), not_default(new)
    changed = [
        f"{key} {old.get(key)!r} -> {new.get(key)!r}"
        for key in sorted({*before, *now} - {*ignored})
        if not same(before.get(key), now.get(key))
    ]
    return ", ".join(changed[:5]) + (", ..." if len(changed) > 5 else "")
