"""Generators: they write profiles, with a language model or without."""

from __future__ import annotations

from recbole_llmkt.profiles.generation.generators.base import Answer, Generator, Request
from recbole_llmkt.utils.importing import import_subclass, make_own
from recbole_llmkt.utils.types import SettingsLike

__all__ = ["Answer", "Generator", "Request", "get_generator", "get_generator_class"]

_KEY = "profile_generator"
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
    path = _CLASSES.get(name, name)
    return import_subclass(_KEY, path, Generator)  # type: ignore[type-abstract]


def get_generator(settings: SettingsLike) -> Generator:
    """Make the generator that ``profile_generator`` names.

    Parameters
    ----------
    settings : mapping
        The ``profile_*`` keys with their values, as plain Python values.

    Raises
    ------
    ConfigError
        A key that the generator needs is missing, a library is not installed, or an own class
        cannot be made.
    """
    name = settings[_KEY]
    generator = get_generator_class(name)
    if name in _CLASSES:
        return generator(settings)
    return make_own(_KEY, name, lambda: generator(settings))
