"""Text encoders: they turn profiles into vectors."""

from __future__ import annotations

import os
import re

from recbole_llmkt.profiles.encoders.base import Encoder
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.importing import import_subclass, make_own
from recbole_llmkt.utils.types import RunConfig

__all__ = ["Encoder", "get_encoder"]

_KEY = "profile_encoder"
_CLASS_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def get_encoder(config: RunConfig) -> Encoder:
    """Return the encoder that ``profile_encoder`` names.

    Parameters
    ----------
    config : recbole_llmkt.config.Config
        ``profile_encoder`` is ``wordllama``, ``openai:<model>``, the class path of an
        :class:`Encoder`, or a sentence-transformers model: a hub name or a folder.

    Raises
    ------
    ConfigError
        A class path that cannot be imported, or is of something else.
    ProfileError
        The encoder cannot be found, or its library is not installed.
    """
    name: str = config[_KEY]
    if name == "wordllama":
        from recbole_llmkt.profiles.encoders.wordllama import WordLlamaEncoder

        return WordLlamaEncoder(batch_size=config["profile_encoder_batch_size"])
    if name.startswith("openai:"):
        from recbole_llmkt.profiles.encoders.openai import OpenAIEncoder

        return OpenAIEncoder.from_config(config)
    if is_class_path(name):
        return _own(name, config)
    from recbole_llmkt.profiles.encoders.sentence_transformers import SentenceTransformerEncoder

    return SentenceTransformerEncoder(
        name,
        device=config["profile_device"],
        batch_size=config["profile_encoder_batch_size"],
    )


def is_class_path(name: str) -> bool:
    """Tell a class path from a folder or a hub name.

    It has no slash, is no folder, and consists of Python names with dots between them. Hub names
    without a slash have no such dots (``all-MiniLM-L6-v2``, ``glove.6B.300d``).

    Parameters
    ----------
    name : str
        A value of ``profile_encoder``.
    """
    return bool(_CLASS_PATH.fullmatch(name)) and not os.path.isdir(name)


def _own(path: str, config: RunConfig) -> Encoder:
    try:
        encoder_class = import_subclass(_KEY, path, Encoder)  # type: ignore[type-abstract]
    except ConfigError as error:
        raise ConfigError(f"{error} (There is no folder '{path}' either.)") from error
    encoder = make_own(_KEY, path, lambda: encoder_class.from_config(config))
    encoder.name = path  # vectors are stored under it, and looked up by it
    return encoder
