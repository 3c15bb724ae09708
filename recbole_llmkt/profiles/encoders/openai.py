"""The embeddings endpoint of any OpenAI-compatible server."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_llmkt.profiles.encoders.base import Encoder
from recbole_llmkt.profiles.service import service_key, without_key
from recbole_llmkt.utils.exceptions import ProfileError

# The service reads 8191 tokens, and no token is shorter than one byte.
_LONGEST_BYTES = 8000


class OpenAIEncoder(Encoder):
    """An embeddings model behind an OpenAI-compatible server.

    Parameters
    ----------
    name : str
        ``openai:<model>``.
    api_key : str
        Sent to the server, never logged or stored.
    api_base : str, optional
        Address of the server; by default, that of the OpenAI service.
    timeout : float
        Seconds before a request counts as failed.
    retries : int
        Times the client tries a request again after 429, 5xx or a time-out.
    batch_size : int
        Texts in one request.

    Raises
    ------
    ProfileError
        The ``openai`` package is not installed.
    """

    def __init__(
        self,
        name: str,
        api_key: str,
        api_base: str | None = None,
        timeout: float = 60.0,
        retries: int = 5,
        batch_size: int = 32,
    ) -> None:
        super().__init__(name, batch_size)
        try:
            import openai
        except ImportError as error:
            raise ProfileError(
                f"profile_encoder: {name} needs the openai package: `pip install openai`."
            ) from error
        self._model = name.partition(":")[2]
        self._error = openai.OpenAIError
        self._key = api_key
        self._client = openai.OpenAI(
            api_key=api_key, base_url=api_base, timeout=timeout, max_retries=retries
        )

    @classmethod
    def from_config(cls, config: Any) -> OpenAIEncoder:
        """Make the encoder that a configuration describes.

        Raises
        ------
        ConfigError
            The environment variable with the key is not set, and the server is OpenAI's.
        """
        return cls(
            config["profile_encoder"],
            api_key=service_key(config),
            api_base=config["profile_api_base"],
            timeout=config["profile_timeout"],
            retries=config["profile_retries"],
            batch_size=config["profile_encoder_batch_size"],
        )

    def split(self, texts: list[str]) -> list[list[tuple[str, int]]]:
        """Split texts whose tokens might be too many, at blanks; lengths are in bytes."""
        return [_halve(text) for text in texts]

    def encode_batch(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Encode texts in one request: float32, shape (n_texts, dim_text).

        Raises
        ------
        ProfileError
            The server refuses, or answers with something else than one vector per text.
        """
        try:
            answer = self._client.embeddings.create(
                model=self._model, input=texts, encoding_format="float"
            )
        except self._error as error:
            raise ProfileError(
                f"The server {self._client.base_url} made no embeddings with '{self._model}': "
                f"{without_key(error, self._key)}"
            ) from None
        rows = sorted(answer.data or [], key=lambda one: one.index)
        if [one.index for one in rows] != list(range(len(texts))):
            raise ProfileError(
                f"The server {self._client.base_url} answered with {len(rows)} vectors for "
                f"{len(texts)} texts: '{self._model}' may be no embeddings model."
            )
        return np.array([one.embedding for one in rows], dtype=np.float32)


def _halve(text: str) -> list[tuple[str, int]]:
    length = len(text.encode())
    if length <= _LONGEST_BYTES:
        return [(text, length)]
    middle = len(text) // 2
    cut = text.rfind(" ", 1, middle)
    cut = cut if cut > 0 else middle
    return _halve(text[:cut]) + _halve(text[cut:])
