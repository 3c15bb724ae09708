"""Where the package's own data lie: properties, prompts and bundled profiles."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def properties_dir() -> Path:
    """Return the folder of the packaged properties (``overall.yaml``, ``model/``, ...)."""
    return Path(str(resources.files("recbole_llmkt.properties")))


def bundled_dir(dataset: str) -> Path:
    """Return the folder that holds what is bundled for ``dataset``; it need not exist."""
    return Path(str(resources.files("recbole_llmkt.dataset"))) / dataset


def names(folder: str) -> list[str]:
    """List the YAML files of a folder of the properties, without their suffix."""
    return sorted(path.stem for path in (properties_dir() / folder).glob("*.yaml"))
