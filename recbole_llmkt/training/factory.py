"""Build a run's model and its trainer's class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from recbole.utils import ModelType
from recbole.utils import get_trainer as recbole_trainer

from recbole_llmkt.compat import building_model
from recbole_llmkt.transfer.methods.kar import uses_kar


def build_model(
    config: Any, dataset: Any, state_dict: Mapping[str, torch.Tensor] | None = None
) -> Any:
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

    Returns
    -------
    AbstractRecommender
        The stock class, or with ``kt_method: kar`` its augmented one, on the run's device.

    Raises
    ------
    LLMKTError
        The model cannot be augmented, there are no profiles, or weights of an earlier training are
        a pickle.
    """
    with building_model():
        if not uses_kar(config):
            return config.model_class(config, dataset).to(config["device"])
        from recbole_llmkt.transfer.methods.kar import build_augmented

        return build_augmented(config, dataset, state_dict)


def get_trainer(model_type: ModelType, model_name: str) -> type[Any]:
    """Return RecBole's trainer class for a model, extended by knowledge transfer.

    Decision-tree models come with their library's own training loop: RecBole's trainer for
    them is returned as it is.
    """
    from recbole_llmkt.training.trainer import TransferMixin

    stock: type[Any] = recbole_trainer(model_type, model_name)
    if model_type == ModelType.DECISIONTREE:
        return stock
    return type(f"Transfer{stock.__name__}", (TransferMixin, stock), {"__doc__": stock.__doc__})
