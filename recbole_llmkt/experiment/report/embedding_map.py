"""A map of the profile embeddings: two dimensions, a colour for each category."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from recbole.utils import init_seed

from recbole_llmkt.datasets.history import training_histories
from recbole_llmkt.datasets.loading import load_data
from recbole_llmkt.datasets.metadata import read_item_metadata
from recbole_llmkt.experiment.runs.consistency import uses
from recbole_llmkt.experiment.runs.plan import Run
from recbole_llmkt.experiment.runs.results import Record, run_key
from recbole_llmkt.profiles.loading import load_profiles
from recbole_llmkt.transfer.targets.build import TRANSFORMS
from recbole_llmkt.utils.exceptions import DataError, LLMKTError
from recbole_llmkt.utils.files import replace_file
from recbole_llmkt.utils.randomness import isolated_randomness

logger = getLogger(__name__)

FILE_NAME = "embedding_map.npz"
MOST_POINTS = 3000
_FEWEST_FOR_UMAP = 30
_SEED = 0


@dataclass(frozen=True)
class EmbeddingMap:
    """Where the profiles of one kind of entity lie.

    Attributes
    ----------
    entity : str
        ``"user"`` or ``"item"``.
    method : str
        ``"UMAP"``, or ``"PCA"`` where umap-learn is not installed (or profiles are few).
    points : ndarray of float32, shape (n_points, 2)
        At most 3,000 profiles, drawn at random.
    categories : ndarray of str, shape (n_points,)
        An item's first category; of a user the commonest one in the training interactions; ``""``
        where none is known.
    """

    entity: str
    method: str
    points: npt.NDArray[np.float32]
    categories: npt.NDArray[Any]


def ensure_maps(runs: Sequence[Run], records: Sequence[Record], folder: Path) -> None:
    """Compute the maps of a comparison's profiles and keep them in its folder, once.

    A map is an illustration: what stands in its way is logged, and ends nothing.

    Parameters
    ----------
    runs : sequence of Run
        The comparison's runs.
    records : sequence of dict
        What came of them; the first that learned from real profiles says which ones to draw.
    folder : Path
        The comparison's folder.
    """
    entities = {run_key(one): _entities(one) for one in records}
    wanted = [run for run in runs if entities.get(run.key)]
    if not wanted or (folder / FILE_NAME).exists():
        return
    logger.info("Drawing the map of the profile embeddings.")
    try:
        with isolated_randomness(_SEED):
            maps = _maps(wanted[0].config(), entities[wanted[0].key])
    except LLMKTError as error:
        logger.warning("There will be no map of the profile embeddings: %s", error)
        return
    content = io.BytesIO()
    arrays = {}
    for one in maps:
        arrays[f"{one.entity} points"] = one.points
        arrays[f"{one.entity} categories"] = one.categories
        arrays[f"{one.entity} method"] = np.array(one.method)
    np.savez_compressed(content, **arrays)
    replace_file(folder / FILE_NAME, content.getvalue())


def read_maps(folder: Path) -> list[EmbeddingMap]:
    """Read what :func:`ensure_maps` kept; without the file there are no maps.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return []
    try:
        with np.load(path, allow_pickle=False) as file:
            return [
                EmbeddingMap(
                    entity,
                    str(file[f"{entity} method"]),
                    file[f"{entity} points"],
                    file[f"{entity} categories"],
                )
                for entity in ("user", "item")
                if f"{entity} points" in file.files
            ]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not readable ({error}). Delete it and compare again.") from error


def _entities(record: Record) -> list[str]:
    """Return whose real profiles a run learned from."""
    if record.get("settings", {}).get("kt_control", "none") != "none":
        return []
    return sorted({one["entity"] for _, one in uses(record) if "entity" in one}, reverse=True)


def _maps(config: Any, entities: Sequence[str]) -> list[EmbeddingMap]:
    init_seed(config["seed"], config["reproducibility"])  # a random split is the run's own
    train = load_data(config)[1]._dataset
    of_items = _item_categories(config)
    maps = []
    for entity in entities:
        profiles = load_profiles(config, train, entity)
        count = len(profiles.ids)
        if count < 2:
            logger.info("There is no map of %d %s profile.", count, entity)
            continue
        chosen = np.random.default_rng(_SEED).permutation(count)[:MOST_POINTS]
        method, points = _flatten(profiles.vectors[np.sort(chosen)])
        ids = profiles.ids[np.sort(chosen)]
        if entity == "item":
            found = [
                of_items.get(str(one), "") for one in train.field2id_token[train.iid_field][ids]
            ]
        else:
            found = _user_categories(train, ids, of_items)
        maps.append(EmbeddingMap(entity, method, points, np.array(found, dtype=str)))
    return maps


def _flatten(vectors: npt.NDArray[np.float32]) -> tuple[str, npt.NDArray[np.float32]]:
    name = "umap" if len(vectors) >= _FEWEST_FOR_UMAP and _umap_is_installed() else "pca"
    points = TRANSFORMS[name](vectors, vectors, 2, _SEED)
    return name.upper(), np.asarray(points, dtype=np.float32)


def _umap_is_installed() -> bool:
    return importlib.util.find_spec("umap") is not None


def _item_categories(config: Any) -> dict[str, str]:
    """Return the first category of each item; nothing where the dataset names none."""
    try:
        metadata = read_item_metadata(config)
    except DataError as error:
        logger.info("The map has no colours: %s", error)
        return {}
    return {token: one.categories[0] for token, one in metadata.items() if one.categories}


def _user_categories(
    train: Any, ids: npt.NDArray[np.int64], of_items: Mapping[str, str]
) -> list[str]:
    histories = training_histories(train)
    by_id = [of_items.get(str(token), "") for token in histories.item_tokens]
    found = []
    for user in ids:
        counts = Counter(by_id[item] for item in histories.items(int(user)) if by_id[item])
        found.append(counts.most_common(1)[0][0] if counts else "")
    return found
