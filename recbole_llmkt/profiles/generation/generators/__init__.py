"""Generators: they write profiles, with a language model or without."""

from __future__ import annotations

from recbole_llmkt.profiles.generation.generators.base import Answer, Generator, Request
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.importing import import_class
from recbole_llmkt.utils.types import SettingsLike

__all__ = ["Answer", "Generator", "Request", "get_generator", "get_generator_class"]

_CLASSES = {
    "template": f"{__name__}.template.TemplateGenerator",
    "transformers": f"{__name__}.transformers.TransformersGenerator",
    "openai": f"{__name__}.openai.OpenAIGenerator",
}


def get_generator_class(name: str) -> type[Generator]:
    """Return the class of a generator's name or class path.

    Raises
    ------
    ConfigError
        It cannot be imported, or is no :class:`Generator`.
    """
    generator_class = import_class(_CLASSES.get(name, name))
    if not issubclass(generator_class, Generator):
        raise ConfigError(f"profile_generator: {name} is no subclass of {Generator.__module__}.")
    return generator_class


def get_generator(settings: SettingsLike) -> Generator:
    """Make the generator that ``profile_generator`` names.

    Parameters
    ----------
    settings : mapping
        The ``profile_*`` keys with their values, as plain Python values.

    Raises
    ------
    ConfigError
        A key that the generator needs is missing, or a library is not installed.
    """
    return get_generator_class(settings["profile_generator"])(settings)
