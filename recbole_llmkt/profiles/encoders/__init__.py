"""Text encoders: they turn profiles into vectors."""

from __future__ import annotations

from recbole_llmkt.profiles.encoders.base import Encoder
from recbole_llmkt.utils.types import RunConfig

__all__ = ["Encoder", "get_encoder"]


def get_encoder(config: RunConfig) -> Encoder:
    """Return the encoder that ``profile_encoder`` names.

    Parameters
    ----------
    config : recbole_llmkt.config.Config
        ``profile_encoder`` is ``wordllama``, ``openai:<model>``, or a sentence-transformers
        model: a hub name or a folder.

    Raises
    ------
    ProfileError
        The encoder cannot be found, or its library is not installed.
    """
    name: str = config["profile_encoder"]
    if name == "wordllama":
        from recbole_llmkt.profiles.encoders.wordllama import WordLlamaEncoder

        return WordLlamaEncoder(batch_size=config["profile_encoder_batch_size"])
    if name.startswith("openai:"):
        from recbole_llmkt.profiles.encoders.openai import OpenAIEncoder

        return OpenAIEncoder.from_config(config)
    from recbole_llmkt.profiles.encoders.sentence_transformers import SentenceTransformerEncoder

    return SentenceTransformerEncoder(
        name,
        device=config["profile_device"],
        batch_size=config["profile_encoder_batch_size"],
    )
