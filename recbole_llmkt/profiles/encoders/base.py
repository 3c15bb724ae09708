"""What every text encoder shares: long texts split and averaged, unit length, progress."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from recbole_llmkt.utils.exceptions import ProfileError
from recbole_llmkt.utils.progress import tqdm
from recbole_llmkt.utils.types import SettingsLike


class Encoder(ABC):
    """Turn texts into L2-normalised vectors.

    A subclass says how a text is split that is longer than its model reads at once, and encodes
    texts that are not. The vector of a split text is the average of its parts' vectors, weighted
    by their lengths.

    Parameters
    ----------
    name : str
        As in ``profile_encoder``.
    batch_size : int
        Texts in one call of the model.
    """

    def __init__(self, name: str, batch_size: int = 32) -> None:
        self.name = name
        self.batch_size = batch_size

    @classmethod
    def from_config(cls, config: SettingsLike) -> Encoder:
        """Make the encoder that a configuration describes.

        Parameters
        ----------
        config : recbole_llmkt.config.Config
            The ``profile_*`` keys.
        """
        return cls(config["profile_encoder"], config["profile_encoder_batch_size"])

    @abstractmethod
    def split(self, texts: list[str]) -> list[list[tuple[str, int]]]:
        """Split each text into parts that the model reads whole, with their lengths in tokens."""

    @abstractmethod
    def encode_batch(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Encode texts that the model reads whole: float32, shape (n_texts, dim_text)."""

    def encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Encode texts of any length.

        Parameters
        ----------
        texts : list of str
            At least one; none of them is cut.

        Returns
        -------
        ndarray of float32, shape (n_texts, dim_text)
            Rows of length 1.

        Raises
        ------
        ProfileError
            The model returns something else than one vector per text, all of one width.
        """
        parts = self.split(texts)
        flat = [part for text_parts in parts for part in text_parts]
        owner = np.repeat(np.arange(len(texts)), [len(text_parts) for text_parts in parts])
        # The longest first, texts of a length together: little padding, and memory runs out at
        # once or not at all.
        order = sorted(range(len(flat)), key=lambda index: -flat[index][1])
        vectors: npt.NDArray[np.float32] | None = None
        with tqdm(total=len(flat), desc=f"Encode [{self.name}]", delay=2, leave=False) as progress:
            for start in range(0, len(order), self.batch_size):
                rows = order[start : start + self.batch_size]
                encoded = self.encode_batch([flat[row][0] for row in rows])
                if vectors is None:
                    width = encoded.shape[-1] if encoded.ndim else 0
                    vectors = np.zeros((len(texts), width), dtype=np.float32)
                if encoded.shape != (len(rows), vectors.shape[1]) or not encoded.shape[1]:
                    raise ProfileError(
                        f"The encoder '{self.name}' returned the shape {encoded.shape} for "
                        f"{len(rows)} texts: it must return one vector per text, all of one width."
                    )
                weights = np.array([flat[row][1] for row in rows], dtype=np.float32)
                np.add.at(vectors, owner[rows], encoded * np.maximum(weights, 1)[:, None])
                progress.update(len(rows))
        assert vectors is not None
        normalised: npt.NDArray[np.float32] = vectors / np.maximum(
            np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny
        )
        return normalised
