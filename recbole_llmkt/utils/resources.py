"""Where the package's own data are: properties, prompts and bundled profiles."""

from __future__ import annotations

from pathlib import Path


def properties_dir() -> Path:
    """Return the folder of the packaged properties (``overall.yaml``, ``model/``, ...)."""
    return _data_dir("properties")


def bundled_dir(dataset: str) -> Path:
    """Return the folder that holds what is bundled for ``dataset``; it need not exist."""
    return _data_dir("dataset") / dataset


def _data_dir(name: str) -> Path:
    """Return a folder of data: in the package where it is installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / name
    return installed if installed.is_dir() else package.parent / name


def names(folder: str) -> list[str]:
    """List the YAML files of a folder of the properties, without their suffix."""
    return sorted(path.stem for path in (properties_dir() / folder).glob("*.yaml"))
