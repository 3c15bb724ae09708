"""Build a run's model and its trainer's class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from recbole.utils import ModelType
from recbole.utils import get_trainer as recbole_trainer
from torch import nn

from recbole_llmkt.compat import building_model
from recbole_llmkt.evaluation.per_user import EvaluatingTrainer
from recbole_llmkt.profiles.loading import RunProfiles
from recbole_llmkt.transfer.methods import wanted_methods
from recbole_llmkt.utils.exceptions import ConfigError, recbole_refusals
from recbole_llmkt.utils.types import Dataset, Loader, Metrics, RunConfig


class Trainer(EvaluatingTrainer, Protocol):
    """RecBole's trainer of a model, as a run calls it."""

    saved_model_file: str
    run_profiles: RunProfiles | None
    has_weights: bool
    before_training: Callable[[], None]

    def resume_checkpoint(self, resume_file: str) -> None:
        """Resume from a checkpoint."""
        ...

    def fit(
        self, train_data: Loader, *arguments: object, **keywords: object
    ) -> tuple[float, Metrics | None]:
        """Train; return the best validation score and its metrics."""
        ...

    def evaluate(self, eval_data: Loader, *arguments: object, **keywords: object) -> Metrics:
        """Return the metrics of a part of the data."""
        ...


def build_model(
    config: RunConfig,
    dataset: Dataset,
    state_dict: Mapping[str, torch.Tensor] | None = None,
    profiles: RunProfiles | None = None,
) -> nn.Module:
    """Build a run's model with fresh weights.

    Parameters
    ----------
    config : recbole_llmkt.config.Config
        The run's configuration.
    dataset : recbole.data.dataset.Dataset
        The run's training split (``train_data._dataset``).
    state_dict : mapping, optional
        The weights that are to be loaded into it: an augmented model takes its profile
        embeddings from them, so it needs no profiles on disk.
    profiles : RunProfiles, optional
        The run's profiles, where others use them too.

    Returns
    -------
    AbstractRecommender
        The stock class, or what a method makes of it (``kt_method: kar``), on the run's device.

    Raises
    ------
    LLMKTError
        The model cannot be augmented, there are no profiles, or weights of an earlier training are
        a pickle.
    """
    with building_model():
        for method in wanted_methods(config):
            profiles = profiles or RunProfiles(config, dataset)
            model = method.build_model(config, dataset, profiles, state_dict)
            if model is not None:
                return model
        with recbole_refusals(
            lambda reason: ConfigError(
                f"RecBole cannot build {config['model']}: {reason}. Check the model's settings."
            )
        ):
            built: nn.Module = config.model_class(config, dataset).to(config["device"])
    return built


def get_trainer(
    model_type: ModelType, model_name: str
) -> Callable[[RunConfig, nn.Module], Trainer]:
    """Return RecBole's trainer class for a model, extended by knowledge transfer.

    Decision-tree models come with their library's own training loop: RecBole's trainer for
    them is returned as it is.
    """
    from recbole_llmkt.training.trainer import TransferMixin

    stock: type = recbole_trainer(model_type, model_name)
    if model_type == ModelType.DECISIONTREE:
        return stock
    return type(f"Transfer{stock.__name__}", (TransferMixin, stock), {"__doc__": stock.__doc__})
