"""Which RecBole is installed, and what it lacks."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import platform
from importlib.metadata import PackageNotFoundError, version
from logging import getLogger
from pathlib import Path

import numpy as np
import pandas as pd
import recbole
import torch
from scipy.sparse import dok_matrix

from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.types import Settings

logger = getLogger(__name__)

# The releases that this package is tested with, each with the digest of its source.
_RELEASES = {"1.2.0": "924b798d2c4e7b98", "1.2.1": "a65936fe89472a93"}
_NEWEST = max(_RELEASES)
# What 1.2.1 added: models, and keys with the value that 1.2.0 has built in.
_NEW_MODELS = ("AsymKNN", "GRU4RecCPR", "SASRecCPR")
_NEW_KEYS = {("SimpleX", "dropout_prob"): 0.1, ("ItemKNN", "knn_method"): "item"}
_UPGRADE = f"`pip install --no-deps recbole=={_NEWEST}`"


def check_version() -> None:
    """See that RecBole has a supported version, before anything that another one lacks is imported.

    Raises
    ------
    ConfigError
        It is another version.
    """
    if recbole.__version__ not in _RELEASES:
        raise ConfigError(
            f"recbole {recbole.__version__} in {Path(recbole.__file__).parent} is not supported: "
            f"recbole_llmkt runs with {' and '.join(_RELEASES)}. Install one of them: "
            "`pip install 'recbole>=1.2.0,<1.3'`."
        )


@functools.cache
def check_release() -> None:
    """See that RecBole is a release that this package knows; once in a process.

    An edited copy of one is allowed, with a warning: it may not train as stock RecBole does.

    Raises
    ------
    ConfigError
        It is another version.
    """
    check_version()
    folder = Path(recbole.__file__).parent
    if source_digest(folder) != _RELEASES[recbole.__version__]:
        logger.warning(
            "recbole %s in %s is not the release but an edited copy, which may train differently "
            "from stock RecBole: `pip install --force-reinstall --no-deps recbole==%s`.",
            recbole.__version__,
            folder,
            recbole.__version__,
        )


def source_digest(folder: Path) -> str:
    """Return a digest of all Python files in a folder; line endings do not count.

    Parameters
    ----------
    folder : Path
        A package.

    Returns
    -------
    str
        BLAKE2b, 8 bytes, hex.
    """
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).as_posix()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\n")
        digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def lacks_model(name: str) -> str:
    """Say which RecBole has a model that this one lacks, and how to get it; "" if none has."""
    if name not in _NEW_MODELS or recbole.__version__ == _NEWEST:
        return ""
    return f"{name} came with recbole {_NEWEST}, and this is {recbole.__version__}: {_UPGRADE}."


def check_keys_of_release(model: str, given: Settings) -> None:
    """Refuse keys that the installed RecBole would ignore.

    Parameters
    ----------
    model : str
        The model's name.
    given : mapping
        The run's final configuration.

    Raises
    ------
    ConfigError
        Naming the key and the release that has it.
    """
    if recbole.__version__ == _NEWEST:
        return
    asked = [
        f"{key}: {given[key]}"
        for (name, key), built_in in _NEW_KEYS.items()
        if name == model and given.get(key, built_in) != built_in
    ]
    if "TS" in ((given.get("eval_args") or {}).get("split") or {}):
        asked.append("eval_args: {split: {TS: ...}}")
    if asked:
        raise ConfigError(
            f"{asked[0]} came with recbole {_NEWEST}, and this is {recbole.__version__}: "
            f"{_UPGRADE}."
        )


def versions() -> str:
    """Return a line with the versions that a report of a fault must name."""
    parts = [f"Python {platform.python_version()}"]
    for name in ("recbole", "torch", "numpy", "scipy", "pandas", "ray"):
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(parts)


def active_repairs() -> list[str]:
    """Return what RecBole lacks beside the installed libraries, and this package gives it.

    Returns
    -------
    list of str
        In words; empty where all libraries are as old as RecBole expects.
    """
    needs = {
        "names that numpy 2 removed": not hasattr(np, "float_"),
        "a method that scipy 1.13 removed": not hasattr(dok_matrix, "_update"),
        "pandas 3": int(pd.__version__.partition(".")[0]) >= 3,
        "checkpoints that PyTorch 2.6 does not unpickle (stock RecBole alone)": (
            tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 6)
        ),
        "an import of Ray": importlib.util.find_spec("ray") is None,
    }
    return [words for words, needed in needs.items() if needed]
