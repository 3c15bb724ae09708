"""WordLlama: word vectors taken from a language model's token table; offline, very fast."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recbole_llmkt.profiles.encoders.base import Encoder
from recbole_llmkt.utils.exceptions import ProfileError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
_WEIGHTS = "weights/l2_supercat_256.safetensors"
_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"


class WordLlamaEncoder(Encoder):
    """The 256-dimensional static embedding that comes in the ``wordllama`` wheel.

    It reads texts of any length: a text's vector is the average of its tokens' vectors.

    Parameters
    ----------
    batch_size : int
        Texts in one call of the model.

    Raises
    ------
    ProfileError
        The package is not installed, or lacks the two files.
    """

    def __init__(self, batch_size: int = 32) -> None:
        super().__init__("wordllama", batch_size)
        self._model = _load()

    def split(self, texts: list[str]) -> list[list[tuple[str, int]]]:
        """Leave every text whole."""
        return [[(text, len(text))] for text in texts]

    def encode_batch(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Encode texts: float32, shape (n_texts, 256)."""
        vectors = self._model.encode(
            texts, batch_size=self.batch_size, show_progress_bar=False, convert_to_numpy=True
        )
        return np.asarray(vectors, dtype=np.float32)


@functools.lru_cache(maxsize=1)
def _load() -> SentenceTransformer:
    # Kept for the process: half a second for each run and entity that has texts to encode.
    # The package's own load() looks for the tokenizer outside the wheel: read the files.
    spec = importlib.util.find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise ProfileError("profile_encoder: wordllama needs the package: `pip install wordllama`.")
    folder = Path(next(iter(spec.submodule_search_locations)))
    for part in (_WEIGHTS, _TOKENIZER):
        if not (folder / part).is_file():
            raise ProfileError(
                f"The installed wordllama has no {part}: `pip install wordllama==0.3.3.post0`."
            )
    from safetensors.numpy import load_file
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding  # type: ignore[import-not-found]
    from tokenizers import Tokenizer

    weights = load_file(folder / _WEIGHTS)["embedding.weight"].astype(np.float32)
    tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
    tokenizer.no_truncation()
    static = StaticEmbedding(tokenizer, embedding_weights=weights)
    return SentenceTransformer(modules=[static], device="cpu")
