"""Find models: RecBole's by name, others by class path."""

from __future__ import annotations

import importlib

from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import get_model as recbole_model

from recbole_llmkt.compat import importing_models, lacks_model
from recbole_llmkt.utils.exceptions import ConfigError, nearest
from recbole_llmkt.utils.importing import import_class


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
        with importing_models():
            own_class = import_class(name)
        if not issubclass(own_class, AbstractRecommender):
            raise ConfigError(f"'{name}' is not a RecBole model: derive it from one of RecBole's.")
        return own_class
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
