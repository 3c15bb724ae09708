"""Which keys decide the result of a run, and their digest."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Collection

from recbole_llmkt.config import Config
from recbole_llmkt.keys.table import IRRELEVANT_KEYS, is_knowledge_key
from recbole_llmkt.utils import resources
from recbole_llmkt.utils.parsing import load_yaml
from recbole_llmkt.utils.types import Settings

# These keys decide which profiles a run reads; the other profile keys decide how they are made.
_READING_KEYS = {"profile_dir", "profile_encoder", "profile_allow_leak"}


def deciding_settings(config: Config) -> Settings:
    """Return the keys of a configuration that decide the result of a run.

    Paths (except ``profile_dir``: other profiles are other knowledge), devices and logging are
    left out; so are the keys of knowledge transfer where it is off.
    """
    values = {key: value for key, value in config.plain().items() if key not in IRRELEVANT_KEYS}
    for key in list(values):
        transfer = is_knowledge_key(key) and key != "kt_enabled"
        unused = key.startswith("profile_") and key not in _READING_KEYS
        if unused or (transfer and not values["kt_enabled"]):
            del values[key]
    return values


def digest(settings: Settings) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of deciding settings.

    Keys of this package count only where they differ from ``properties/overall.yaml``: results
    recorded before a key existed then have the digest of a run that leaves it at its default.
    """
    return text_digest(not_default(settings))


def not_default(settings: Settings) -> Settings:
    """Return ``settings`` without the keys of this package that have their default value."""
    defaults = _defaults()
    return {
        key: value
        for key, value in settings.items()
        if not (key in defaults and same(value, defaults[key]))
    }


def text_digest(values: object) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of plain values."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=1)
def _defaults() -> Settings:
    return load_yaml(resources.properties_dir() / "overall.yaml")


def same(first: object, second: object) -> bool:
    """Return whether two values are equal in JSON: 1 is not True there, and a tuple is a list."""
    return json.dumps(first, default=str) == json.dumps(second, default=str)


def differences(old: Settings, new: Settings, ignored: Collection[str] = ()) -> str:
    """Name the first few keys that have another value, with both values; "" if there are none.

    A missing key of this package has its default value.
    """
    before, now = not_default(old), not_default(new)
    changed = [
        f"{key} {old.get(key)!r} -> {new.get(key)!r}"
        for key in sorted({*before, *now} - {*ignored})
        if not same(before.get(key), now.get(key))
    ]
    return ", ".join(changed[:5]) + (", ..." if len(changed) > 5 else "")
