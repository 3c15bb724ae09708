"""The embeddings endpoint of any OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from recbole_llmkt.profiles.encoders.base import Encoder
from recbole_llmkt.profiles.responses import bounded, client_keywords
from recbole_llmkt.profiles.service import Service, StatusError, stops_for_good
from recbole_llmkt.utils.exceptions import ProfileError
from recbole_llmkt.utils.types import Settings, SettingsLike

# The service reads 8191 tokens, and no token is shorter than one byte.
_LONGEST_BYTES = 8000
# Bytes of a vector in an answer: tens of thousands of numbers.
_LONGEST_VECTOR = 1_000_000


class OpenAIEncoder(Encoder):
    """An embeddings model behind an OpenAI-compatible server.

    Parameters
    ----------
    name : str
        ``openai:<model>``.
    service : Service
        The server.
    settings : mapping or recbole_llmkt.config.Config
        ``profile_timeout`` and ``profile_retries``: the client tries a request again after 429,
        5xx or a time-out, but not where the account is empty.
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
        service: Service,
        settings: SettingsLike,
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
        self._openai = openai
        self._service = service
        on_response = bounded(batch_size * _LONGEST_VECTOR, settings["profile_timeout"])
        self._client = openai.OpenAI(
            **service.client_arguments(settings),
            http_client=openai.DefaultHttpxClient(**client_keywords(settings, on_response)),
        )

    @classmethod
    def from_config(cls, config: SettingsLike) -> OpenAIEncoder:
        """Make the encoder that a configuration describes.

        Raises
        ------
        ConfigError
            The environment variable with the key is not set, and the server is OpenAI's; or the
            server's address cannot be used.
        """
        return cls(
            config["profile_encoder"],
            Service.of(config),
            config,
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
            # As the generator does: what comes back is checked here, not by the client.
            answer = self._client.post(
                "/embeddings",
                cast_to=object,
                body={"model": self._model, "input": texts, "encoding_format": "float"},
            )
        except Exception as error:  # of the client, and of the HTTP library below it
            # Older clients hide what was wrong with the response behind "Connection error."
            told = error if isinstance(error, StatusError) else error.__cause__ or error
            raise ProfileError(
                f"The server {self._service.name} returned no embeddings with '{self._model}': "
                f"{self._service.clean(told).rstrip(' .')}. Fix: {_fix_of(error)}."
            ) from None
        try:
            return _vectors(answer, len(texts), self._service.shown)
        except _NoVectorsError as error:
            raise ProfileError(
                f"The server {self._service.name} answered with {self._service.clean(error)}: "
                f"'{self._model}' may not be an embeddings model, or profile_api_base is wrong."
            ) from None


def _fix_of(error: Exception) -> str:
    if not isinstance(error, StatusError):
        return "correct profile_api_base, or wait for the server"
    for_good, status = stops_for_good(error.response), error.status_code
    if for_good:
        return for_good
    if status == 413:
        return "lower profile_encoder_batch_size"
    if status == 429 or status >= 500:
        return "wait, or raise profile_retries"
    return "correct profile_encoder, the key, or the path of profile_api_base (often /v1)"


class _NoVectorsError(Exception):
    """An answer that holds something else than one vector per text."""


def _vectors(answer: object, count: int, shown: Callable[[object], str]) -> npt.NDArray[np.float32]:
    """Read an answer of the embeddings endpoint: float32, shape (count, dim_text)."""
    rows = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _NoVectorsError(f"no list of vectors but {shown(answer)}")
    if len(rows) != count:
        raise _NoVectorsError(f"{len(rows)} vectors for {count} texts")
    by_index = {row.get("index"): row.get("embedding") for row in rows if _is_index(row)}
    if set(by_index) != set(range(count)):
        raise _NoVectorsError("vectors that are not numbered from 0 on, one for each text")
    vectors = [by_index[index] for index in range(count)]
    for vector in vectors:
        if not isinstance(vector, list) or not all(
            type(number) in (int, float) for number in vector
        ):
            raise _NoVectorsError(f"{shown(vector)} where a list of numbers belongs")
    widths = sorted({len(vector) for vector in vectors})
    if len(widths) > 1 or widths == [0]:
        raise _NoVectorsError(f"vectors of {' and '.join(map(str, widths))} numbers")
    return _finite(vectors)


def _finite(vectors: list[list[float]]) -> npt.NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):
            table = np.array(vectors, dtype=np.float32)
    except OverflowError:  # an integer of hundreds of digits
        raise _NoVectorsError("a vector with numbers too large for float32") from None
    if not np.isfinite(table).all():
        raise _NoVectorsError("a vector with NaN or infinite numbers")
    if not table.any(axis=1).all():
        raise _NoVectorsError("a vector of zeros")
    return table


def _is_index(row: Settings) -> bool:
    return type(row.get("index")) is int


def _halve(text: str) -> list[tuple[str, int]]:
    length = len(text.encode())
    if length <= _LONGEST_BYTES:
        return [(text, length)]
    middle = len(text) // 2
    cut = text.rfind(" ", 1, middle)
    cut = cut if cut > 0 else middle
    return _halve(text[:cut]) + _halve(text[cut:])
