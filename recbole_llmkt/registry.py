"""Find models and trainers: RecBole's by name, anybody's by class path; build the run's model."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType
from recbole.utils import get_model as recbole_model
from recbole.utils import get_trainer as recbole_trainer

from recbole_llmkt.compat import building_model, importing_models, lacks_model
from recbole_llmkt.exceptions import ConfigError, nearest


def import_class(path: str) -> type:
    """Import ``package.module.Class``.

    Raises
    ------
    ConfigError
        The module cannot be imported or has no such class.
    """
    module_name, _, class_name = path.rpartition(".")
    try:
        with importing_models():
            found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(
            f"Cannot import '{path}': {error}. Write package.module.Class of something that "
            "Python can import from here."
        ) from error
    if not isinstance(found, type):
        raise ConfigError(f"'{path}' is not a class.")
    return found


def model_names() -> list[str]:
    """List the class names of RecBole's general, context, sequential and knowledge models."""
    names = []
    for kind in ("general", "context_aware", "sequential", "knowledge_aware"):
        with importing_models():
            package = importlib.import_module(f"recbole.model.{kind}_recommender")
        names += [name for name, value in vars(package).items() if isinstance(value, type)]
    return sorted(names)


def get_model(name: str) -> type:
    """Return the model class of a RecBole name or of a class path.

    Raises
    ------
    ConfigError
        There is no such model; the nearest name is suggested.
    """
    if "." in name:
        found = import_class(name)
        if not issubclass(found, AbstractRecommender):
            raise ConfigError(f"'{name}' is not a RecBole model: derive it from one of RecBole's.")
        return found
    try:
        with importing_models():
            model: type = recbole_model(name)
    except (ValueError, AttributeError, ImportError) as error:
        if name in ("XGBoost", "LightGBM"):
            raise ConfigError(f"{name} needs a library that is not installed: {error}.") from error
        raise ConfigError(
            lacks_model(name)
            or f"Unknown model '{name}'. It is neither a model of RecBole nor a class path "
            f"(my_package.my_module.MyModel).{nearest(name, model_names())}"
        ) from error
    return model


def uses_kar(config: Any) -> bool:
    """Tell whether a run's model is augmented by KAR."""
    return bool(config["kt_enabled"] and config["kt_method"] == "kar")


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
        from recbole_llmkt.models.kar import build_augmented

        return build_augmented(config, dataset, state_dict)


def get_trainer(model_type: ModelType, model_name: str) -> type[Any]:
    """Return RecBole's trainer class for a model, extended by knowledge transfer.

    Decision-tree models come with their library's own training loop: RecBole's trainer for
    them is returned as it is.
    """
    from recbole_llmkt.trainer import TransferMixin

    stock: type[Any] = recbole_trainer(model_type, model_name)
    if model_type == ModelType.DECISIONTREE:
        return stock
    return type(f"Transfer{stock.__name__}", (TransferMixin, stock), {"__doc__": stock.__doc__})
