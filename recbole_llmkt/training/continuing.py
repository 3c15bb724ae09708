"""Training and loading that start from a checkpoint, whatever has become of its data since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
from recbole.utils import ModelType, init_seed

from recbole_llmkt.checkpoints import (
    load_checkpoint,
    load_weights,
    saved_settings,
    saved_vocabulary,
)
from recbole_llmkt.config import Config
from recbole_llmkt.datasets.checks import check_files
from recbole_llmkt.datasets.history import interaction_counts
from recbole_llmkt.datasets.loading import load_data
from recbole_llmkt.datasets.vocabulary import Vocabulary
from recbole_llmkt.profiles.loading import ProfileVectors, RunProfiles
from recbole_llmkt.profiles.locations import profile_folder
from recbole_llmkt.training.growth import check_growth, grown_checkpoint
from recbole_llmkt.transfer.context import RunContext, entities_of
from recbole_llmkt.transfer.inspection.tables import EntityTable
from recbole_llmkt.transfer.methods.cold_start import ColdSide, fill_rows
from recbole_llmkt.utils.exceptions import ConfigError, DataError, ProfileError
from recbole_llmkt.utils.types import Dataset, IntArray, Loader, State

logger = getLogger(__name__)

FEWEST_WARM = 2
Data = tuple[Dataset, Loader, "Loader | None", "Loader | None"]


def open_checkpoint(
    model_file: str, config_dict: Mapping[str, object] | None, trust: bool, to_train: bool = False
) -> tuple[State, Config, Vocabulary]:
    """Read a checkpoint, and make its run's configuration with the settings of today.

    Parameters and errors are those of :func:`~recbole_llmkt.quick_start.load_data_and_model`;
    ``to_train`` refuses class paths of an untrusted file that training would need.

    Returns
    -------
    tuple
        What the file holds, the configuration, and whose each row is.
    """
    checkpoint = load_checkpoint(model_file)
    settings = saved_settings(checkpoint, model_file, config_dict or {}, trust, to_train)
    config = Config(config_dict=settings, command_line=[])
    vocabulary = saved_vocabulary(checkpoint, model_file)
    _check_data(config, model_file)
    init_seed(config["seed"], config["reproducibility"])
    return checkpoint, config, vocabulary


def _check_data(config: Config, model_file: str) -> None:
    """Check that the data of a checkpoint are there: no file says what is downloaded, and where."""
    if not Path(config["data_path"]).is_dir():
        raise DataError(
            f"'{model_file}' was trained on the dataset '{config['dataset']}', and there is no "
            f"folder {config['data_path']}: name the folder that holds it with --data_path=DIR."
        )
    check_files(config)


@dataclass(frozen=True)
class Start:
    """The checkpoint that a run takes its first weights from; it is a run of its own.

    Attributes
    ----------
    path : str
        The file.
    checkpoint : dict
        What it holds.
    before : Vocabulary
        Whose its rows are.
    """

    path: str
    checkpoint: State
    before: Vocabulary

    @classmethod
    def of(cls, path: str, config: Config) -> Start:
        """Read the checkpoint that a run starts from.

        Raises
        ------
        DataError
            It is none of this package, or one of another model.
        ConfigError
            The model has no weights to start with.
        """
        checkpoint = load_checkpoint(path)
        if config["MODEL_TYPE"] in (ModelType.TRADITIONAL, ModelType.DECISIONTREE):
            raise ConfigError(
                f"{config['model']} is solved anew whenever it is trained, and has no weights to "
                "start with: leave --from out."
            )
        saved = str(checkpoint["config"]["model"]).rpartition(".")[2]
        if saved != config["model"]:
            raise DataError(
                f"'{path}' is a checkpoint of {saved}, but the run trains {config['model']}: give "
                "the checkpoint of the same model."
            )
        return cls(path, checkpoint, saved_vocabulary(checkpoint, path))

    def data(self, config: Config) -> Data:
        """Read the data of today: known ids have the checkpoint's numbers, new ones follow.

        Parameters
        ----------
        config : Config
            The run's configuration.

        Returns
        -------
        tuple
            As of :func:`~recbole_llmkt.datasets.loading.load_data`.
        """
        data = load_data(config, self.before)
        new = {name: tokens for name, tokens in data[0].unknown_tokens.items() if tokens}
        if not new:
            return data
        check_growth(data[0], new, self.path)
        init_seed(config["seed"], config["reproducibility"])  # the split is drawn from the start
        return load_data(config, self.before.grown(new))

    def put(self, config: Config, model: Any, train_data: Loader, profiles: RunProfiles) -> None:
        """Put the checkpoint's weights into a model that was built on the data of today.

        New users and items start from their profile where the run uses profiles and they have
        one, and otherwise as the model starts them.

        Parameters
        ----------
        config : Config
            The run's configuration.
        model : AbstractRecommender
            With fresh weights.
        train_data : AbstractDataLoader
            The training split.
        profiles : RunProfiles
            The run's profiles.

        Raises
        ------
        LLMKTError
            The weights do not fit, or the profiles cannot be used.
        """
        train = train_data._dataset
        fitted = grown_checkpoint(self.checkpoint, model, self.before, train, self.path)
        load_weights(model, fitted, self.path)
        context = RunContext(config, model, train_data, profiles)
        for entity, name in (("user", train.uid_field), ("item", train.iid_field)):
            n_known, n_now = len(self.before.tokens[name]), train.num(name)
            logger.info(
                "%d known %ss start from '%s', and %d are new.",
                n_known - 1,
                entity,
                self.path,
                n_now - n_known,
            )
            if n_now > n_known and _has_profiles(config, entity):
                tables = context.tables([entity])[entity]
                new = np.arange(n_known, n_now)
                side = predicted_side(profiles.of(entity), tables, train, new)
                if tables and side.cold.any():
                    fill_rows([side], model.state_dict())


def _has_profiles(config: Config, entity: str) -> bool:
    """Tell whether a run uses profiles of users or items, and there are some."""
    if not config["kt_enabled"] or entity not in entities_of(config["kt_entity"]):
        return False
    try:
        profile_folder(config, entity)
    except ProfileError:
        return False
    return True


def predicted_side(
    profiles: ProfileVectors, tables: list[EntityTable], train: Dataset, new: IntArray
) -> ColdSide:
    """Return whose rows are predicted from their profiles, and whose rows predict them.

    Parameters
    ----------
    profiles : ProfileVectors
        Of all users or all items.
    tables : list of EntityTable
        Theirs.
    train : recbole.data.dataset.Dataset
        The training split.
    new : ndarray of int64
        Internal ids of those without a row of their own; the others that occur in ``train`` have
        been trained.

    Returns
    -------
    ColdSide

    Raises
    ------
    ProfileError
        Too few trained ones have a profile.
    """
    is_new = np.isin(profiles.ids, new)
    warm = (interaction_counts(train)[profiles.entity][profiles.ids] > 0) & ~is_new
    if is_new.any() and warm.sum() < FEWEST_WARM:
        raise ProfileError(
            f"The row of a new {profiles.entity} is predicted from trained ones with a profile, "
            f"and there are {warm.sum()}: write more profiles."
        )
    kept = warm | is_new
    chosen = ProfileVectors(
        profiles.entity,
        profiles.ids[kept],
        profiles.vectors[kept],
        profiles.n_entities,
        profiles.encoder,
        profiles.generator,
    )
    return ColdSide(tables, chosen, chosen.vectors, is_new[kept])
