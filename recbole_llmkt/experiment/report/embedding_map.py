"""A map of the profile embeddings: two dimensions, a colour for each category."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

import numpy as np
import numpy.typing as npt
from recbole.utils import init_seed

from recbole_llmkt.config import Config
from recbole_llmkt.datasets.history import training_histories
from recbole_llmkt.datasets.loading import load_data
from recbole_llmkt.datasets.metadata import read_item_metadata
from recbole_llmkt.experiment.report.significance import is_control
from recbole_llmkt.experiment.runs.consistency import profile_uses
from recbole_llmkt.experiment.runs.plan import Run
from recbole_llmkt.experiment.runs.records import RunRecord
from recbole_llmkt.profiles.loading import load_profiles
from recbole_llmkt.transfer.targets.build import TRANSFORMS
from recbole_llmkt.utils.arrays import Arrays, check_array, read_arrays, write_arrays
from recbole_llmkt.utils.entities import ENTITIES
from recbole_llmkt.utils.exceptions import DataError, LLMKTError
from recbole_llmkt.utils.randomness import isolated_randomness
from recbole_llmkt.utils.text import one_line
from recbole_llmkt.utils.types import Dataset

logger = getLogger(__name__)

FILE_NAME = "embedding_map.npz"
MOST_POINTS = 3000
_SEED = 0
_LONGEST_NAME = 60  # characters of a category, in the legend


@dataclass(frozen=True)
class EmbeddingMap:
    """Where the profiles of one kind of entity lie.

    Attributes
    ----------
    entity : str
        ``"user"`` or ``"item"``.
    method : str
        ``"PCA"``; UMAP, which is compiled for half a minute first, in maps of earlier versions.
    points : ndarray of float32, shape (n_points, 2)
        At most 3,000 profiles, drawn at random.
    categories : ndarray of str, shape (n_points,)
        An item's first category, a user's most frequent one in the training interactions; ``""``
        if none is known.
    """

    entity: str
    method: str
    points: npt.NDArray[np.float32]
    categories: npt.NDArray[np.str_]


def ensure_maps(runs: Sequence[Run], records: Sequence[RunRecord], folder: Path) -> None:
    """Compute the maps of a comparison's profiles and keep them in its folder, once.

    A map is only an illustration: if it cannot be drawn, the reason is logged.

    Parameters
    ----------
    runs : sequence of Run
        The comparison's runs.
    records : sequence of RunRecord
        Their records; the first run that learned from real profiles decides which to draw.
    folder : Path
        The comparison's folder.
    """
    entities = {record.key: _entities(record) for record in records}
    wanted = [run for run in runs if entities.get(run.key)]
    if not wanted or _is_kept(folder):
        return
    logger.info("Drawing the map of the profile embeddings.")
    try:
        with isolated_randomness(_SEED):
            maps = _maps(wanted[0].config(), entities[wanted[0].key])
    except LLMKTError as error:
        logger.warning("No map of the profile embeddings: %s", error)
        return
    arrays: Arrays = {}
    for embedding_map in maps:
        entity = embedding_map.entity
        arrays[f"{entity} points"] = embedding_map.points
        arrays[f"{entity} categories"] = embedding_map.categories
        arrays[f"{entity} method"] = np.array(embedding_map.method)
    write_arrays(folder / FILE_NAME, arrays)


def _is_kept(folder: Path) -> bool:
    try:
        read_maps(folder)
    except DataError as error:
        logger.warning("The map is drawn again. %s", error)
        return False
    return (folder / FILE_NAME).exists()


def read_maps(folder: Path) -> list[EmbeddingMap]:
    """Read what :func:`ensure_maps` wrote; without the file there are no maps.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return []
    fix = "Delete it and run the comparison again."
    arrays = read_arrays(path, fix)
    entities = [entity for entity in ENTITIES if f"{entity} points" in arrays]
    try:
        return [_read_map(arrays, entity) for entity in entities]
    except ValueError as error:
        raise DataError(f"{path}: not a map of embeddings ({error}). {fix}") from error


def _read_map(arrays: Arrays, entity: str) -> EmbeddingMap:
    points = check_array(arrays, f"{entity} points", (None, 2), "f").astype(np.float32)
    names = check_array(arrays, f"{entity} categories", points.shape[:1], "U")
    categories = np.array([one_line(str(name))[:_LONGEST_NAME] for name in names], dtype=str)
    method = str(check_array(arrays, f"{entity} method", (), "U"))
    return EmbeddingMap(entity, method, points, categories)


def _entities(record: RunRecord) -> list[str]:
    """Return whose real profiles a run learned from."""
    if is_control(record):
        return []
    entities = {use["entity"] for _, use in profile_uses(record) if "entity" in use}
    return sorted(entities, reverse=True)


def _maps(config: Config, entities: Sequence[str]) -> list[EmbeddingMap]:
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
        vectors = profiles.vectors[np.sort(chosen)]
        points = TRANSFORMS["pca"](vectors, vectors, 2, _SEED).astype(np.float32)
        ids = profiles.ids[np.sort(chosen)]
        if entity == "item":
            tokens = train.field2id_token[train.iid_field][ids]
            categories = [of_items.get(str(token), "") for token in tokens]
        else:
            categories = _user_categories(train, ids, of_items)
        maps.append(EmbeddingMap(entity, "PCA", points, np.array(categories, dtype=str)))
    return maps


def _item_categories(config: Config) -> dict[str, str]:
    """Return the first category of each item, if the dataset has any."""
    try:
        metadata = read_item_metadata(config)
    except DataError as error:
        logger.info("The map of the profile embeddings has no colours: %s", error)
        return {}
    return {token: item.categories[0] for token, item in metadata.items() if item.categories}


def _user_categories(
    train: Dataset, ids: npt.NDArray[np.int64], of_items: Mapping[str, str]
) -> list[str]:
    histories = training_histories(train)
    by_id = [of_items.get(str(token), "") for token in histories.item_tokens]
    categories = []
    for user in ids:
        counts = Counter(by_id[item] for item in histories.items(int(user)) if by_id[item])
        categories.append(counts.most_common(1)[0][0] if counts else "")
    return categories
