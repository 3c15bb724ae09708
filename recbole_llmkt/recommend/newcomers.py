"""Load a checkpoint to recommend; users and items that came later get a row from their profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from logging import getLogger
from typing import Any

import numpy as np
from recbole.utils import ModelType, init_seed

from recbole_llmkt.checkpoints import load_weights
from recbole_llmkt.config import Config
from recbole_llmkt.datasets.history import interaction_counts
from recbole_llmkt.datasets.loading import load_data
from recbole_llmkt.datasets.vocabulary import Vocabulary
from recbole_llmkt.profiles.loading import load_profiles
from recbole_llmkt.profiles.locations import profile_folder
from recbole_llmkt.profiles.store import ProfileStore
from recbole_llmkt.training.continuing import open_checkpoint, predicted_side
from recbole_llmkt.training.factory import build_model
from recbole_llmkt.training.growth import check_growth, grown_checkpoint
from recbole_llmkt.transfer.context import RunContext
from recbole_llmkt.transfer.methods import wanted_methods
from recbole_llmkt.transfer.methods.cold_start import fill_rows, filled_tables
from recbole_llmkt.utils.entities import ENTITIES
from recbole_llmkt.utils.exceptions import LLMKTError, ProfileError
from recbole_llmkt.utils.types import Dataset, Loader, State

logger = getLogger(__name__)

_SHOWN = 3
Tokens = dict[str, list[str]]


@dataclass
class ServedModel:
    """A trained model with the present data.

    Attributes
    ----------
    config, model : Config, AbstractRecommender
        Of the checkpoint's run.
    train_data, valid_data : AbstractDataLoader
        The known parts; ``valid_data`` may be None.
    from_profile : dict of str to set of int
        Internal ids whose row came from their profile, by entity.
    without_row : set of int
        Internal ids of users with a profile, if the model has no rows for users.
    """

    config: Config
    model: Any
    train_data: Loader
    valid_data: Loader | None
    from_profile: dict[str, set[int]] = field(default_factory=dict)
    without_row: set[int] = field(default_factory=set)

    @property
    def dataset(self) -> Dataset:
        """The training split."""
        return self.train_data._dataset


def load_to_serve(
    model_file: str, config_dict: Mapping[str, object] | None = None, trust: bool = False
) -> ServedModel:
    """Load a checkpoint with the present data, and make the rows that profiles allow.

    A row is made for users and items with a profile that are new since the checkpoint was saved,
    and for users whom the run knew without interactions. It is predicted from the trained rows and
    their profiles, as with ``kt_cold_start``. The run's filters still apply.

    Parameters
    ----------
    model_file, config_dict, trust
        See :func:`~recbole_llmkt.quick_start.load_data_and_model`.

    Raises
    ------
    DataError
        The file is no checkpoint of this package, or its dataset cannot be read.
    """
    checkpoint, config, vocabulary = open_checkpoint(model_file, config_dict, trust)
    dataset, train_data, valid_data, _ = load_data(config, vocabulary, to_evaluate=False)
    new = _newcomers(config, checkpoint, vocabulary, dataset, train_data._dataset)
    if any(new.values()):
        try:
            return _with_rows(checkpoint, config, vocabulary, dataset, new, model_file)
        except LLMKTError as error:
            logger.warning("New users and items get no rows from their profiles. %s", error)
    model = _model(config, train_data._dataset, checkpoint)
    load_weights(model, checkpoint, model_file)
    return ServedModel(config, model, train_data, valid_data, _filled(checkpoint))


def _model(config: Config, train_dataset: Dataset, checkpoint: State) -> Any:
    init_seed(config["seed"], config["reproducibility"])
    return build_model(config, train_dataset, checkpoint["state_dict"])


def _filled(checkpoint: State) -> dict[str, set[int]]:
    """Return whose row was made from their profile during training (kt_cold_start)."""
    filled: dict[str, set[int]] = {entity: set() for entity in ENTITIES}
    for table in filled_tables(checkpoint):
        filled[table["entity"]].update(table["ids"].tolist())
    return filled


def _newcomers(
    config: Config, checkpoint: State, before: Vocabulary, dataset: Dataset, train: Dataset
) -> Tokens:
    """Return the ids with a profile and without a trained row, by entity."""
    if config["MODEL_TYPE"] in (ModelType.TRADITIONAL, ModelType.DECISIONTREE):
        return {}
    if any(method.changes_architecture for method in wanted_methods(config)):
        return {}
    new: Tokens = {}
    in_files = getattr(dataset, "tokens_in_files", {})
    for entity, name in _fields(dataset).items():
        known = set(before.tokens[name].tolist())
        left_out = in_files.get(name, set()) - set(dataset.unknown_tokens[name]) - known
        profiled = _profiled(config, entity)
        new[entity] = [token for token in profiled if token not in known | left_out]
    counts, filled = interaction_counts(train)["user"], _filled(checkpoint)["user"]
    ids = dataset.field2token_id[dataset.uid_field]
    departed = set(dataset.departed_tokens[dataset.uid_field])
    new["user"] += [
        token
        for token in _profiled(config, "user")
        if token in ids
        and not counts[ids[token]]
        and ids[token] not in filled
        and token not in departed
    ]
    return new


def _fields(dataset: Dataset) -> dict[str, str]:
    return {"user": dataset.uid_field, "item": dataset.iid_field}


def _profiled(config: Config, entity: str) -> list[str]:
    try:
        store = ProfileStore(profile_folder(config, entity), entity)
    except ProfileError:
        return []
    return [profile.id for profile in store.usable()]


def _with_rows(
    checkpoint: State,
    config: Config,
    before: Vocabulary,
    dataset: Dataset,
    new: Tokens,
    path: str,
) -> ServedModel:
    fields = _fields(dataset)
    more = {fields[entity]: tokens for entity, tokens in new.items()}
    check_growth(dataset, more, path)
    # Fields of one table (a sequence of items) share their tokens.
    shared = {
        name: next((more[own] for own in more if tokens is before.tokens[own]), ())
        for name, tokens in before.tokens.items()
    }
    init_seed(config["seed"], config["reproducibility"])  # for the same split
    _, train_data, valid_data, _ = load_data(config, before.grown(shared), to_evaluate=False)
    train = train_data._dataset
    model = _model(config, train, checkpoint)
    load_weights(model, grown_checkpoint(checkpoint, model, before, train, path), path)
    served = ServedModel(config, model, train_data, valid_data, _filled(checkpoint))
    tables = RunContext(config, model, train_data).tables(ENTITIES)
    for entity in [entity for entity in ENTITIES if new[entity]]:
        ids = {int(train.field2token_id[fields[entity]][token]) for token in new[entity]}
        if not tables[entity]:
            served.without_row |= ids if entity == "user" else set()
            continue
        profiles = load_profiles(config, train, entity, training=False)
        side = predicted_side(profiles, tables[entity], train, np.array(sorted(ids)))
        fill_rows([side], model.state_dict())
        served.from_profile[entity] |= ids
        logger.info(
            "%d %ss get a row from their profile: %s.", len(ids), entity, _shown(new[entity])
        )
    return served


def _shown(tokens: list[str]) -> str:
    more = ", ..." if len(tokens) > _SHOWN else ""
    return ", ".join(f"'{token}'" for token in tokens[:_SHOWN]) + more
