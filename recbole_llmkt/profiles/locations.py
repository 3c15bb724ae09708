"""Where profiles and their vectors are stored."""

from __future__ import annotations

import os
from pathlib import Path

from recbole_llmkt.profiles.embeddings import text_digest
from recbole_llmkt.profiles.store import ProfileStore
from recbole_llmkt.utils import resources
from recbole_llmkt.utils.entities import ENTITIES
from recbole_llmkt.utils.exceptions import ProfileError
from recbole_llmkt.utils.types import RunConfig


def profile_folder(config: RunConfig, entity: str | None = None) -> Path:
    """Return the folder that a run reads profiles from.

    It is ``profile_dir``, else ``<data_path>/<dataset>/profiles``, else the bundled one.

    Parameters
    ----------
    config : recbole_llmkt.config.Config
        The run's configuration; its ``data_path`` ends in the dataset's name.
    entity : str, optional
        Take a folder with profiles of this kind only.

    Raises
    ------
    ProfileError
        No such folder holds profiles.
    """
    if config["profile_dir"]:
        folders = [Path(config["profile_dir"])]
    else:
        folders = [own_folder(config), bundled_folder(config)]
    for folder in folders:
        if any(ProfileStore(folder, name).exists() for name in ([entity] if entity else ENTITIES)):
            return folder
    dataset, which = config["dataset"], entity or "user or item"
    raise ProfileError(
        f"There are no {which} profiles of dataset '{dataset}' in "
        f"{' or '.join(map(str, folders))}. Write them with "
        f"`llmkt profile --dataset={dataset} --entity={entity or 'both'}`, or name their folder "
        "with profile_dir."
    )


def own_folder(config: RunConfig) -> Path:
    """Return the folder that new profiles are written to."""
    return Path(config["profile_dir"] or Path(config["data_path"]) / "profiles")


def own_store(config: RunConfig, entity: str) -> ProfileStore:
    """Return the store that new profiles are written to.

    Raises
    ------
    ProfileError
        The dataset's profiles come with the package, and ``profile_dir`` names no other folder:
        new ones would take their place in every later run.
    """
    store = ProfileStore(own_folder(config), entity)
    bundled = ProfileStore(bundled_folder(config), entity)
    if not config["profile_dir"] and not store.exists() and bundled.exists():
        raise ProfileError(
            f"The {entity} profiles of '{config['dataset']}' come with the package. To change "
            f"them, copy {bundled.folder} to your own folder; to write new ones, choose an empty "
            "folder; then name it with profile_dir."
        )
    return store


def bundled_folder(config: RunConfig) -> Path:
    """Return the folder of the profiles that come with this package; it need not exist."""
    return resources.bundled_dir(config["dataset"]) / "profiles"


def embedding_home(folder: Path) -> Path:
    """Return where new vectors of a folder of profiles go: a cache if it belongs to others."""
    bundled = resources.bundled_dir("").resolve() in folder.resolve().parents
    if not bundled and os.access(folder, os.W_OK):
        return folder
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "recbole_llmkt" / f"{folder.parent.name}-{text_digest(str(folder.resolve()))}"
