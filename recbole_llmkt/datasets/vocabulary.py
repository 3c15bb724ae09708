"""The token of each row of a checkpoint's tables, and later data numbered the same way.

RecBole numbers users, items and all other tokens by their first appearance in the atomic files.
When lines are sorted or a user is added or removed, every row of a trained table may belong to
another entity. So a checkpoint stores the token of each row, and data are renumbered by token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from logging import getLogger
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from recbole.utils import FeatureType

from recbole_llmkt.utils.exceptions import DataError
from recbole_llmkt.utils.types import Dataset, NumberedDataset, Values

logger = getLogger(__name__)

Tokens = npt.NDArray[np.str_]
IntArray = npt.NDArray[np.int64]

_PADDING = "[PAD]"
# Tables whose rows are restored to the order they had in the checkpoint's run.
_ORDERED = ("inter_feat", "kg_feat")
_SHOWN = 3


@dataclass(frozen=True)
class Vocabulary:
    """A dataset's tokens by RecBole's internal id, and the order of its rows.

    Attributes
    ----------
    tokens : dict of str to ndarray of str, shape (n_ids,)
        By field: users, items, entities and every other token field. Id 0 is the padding.
    rows : dict of str to ndarray of int64, shape (n_rows,)
        A hash of each row of the interactions (``inter_feat``) and of the knowledge graph
        (``kg_feat``), in the order RecBole split them in.
    """

    tokens: dict[str, Tokens]
    rows: dict[str, IntArray] = field(default_factory=dict)

    @classmethod
    def of(cls, dataset: Dataset) -> Vocabulary:
        """Return the vocabulary of a dataset or a split."""
        tokens = {str(name): np.asarray(ids) for name, ids in dataset.field2id_token.items()}
        return cls(tokens, dict(getattr(dataset, "row_hashes", {})))

    def grown(self, more: Mapping[str, Sequence[str]]) -> Vocabulary:
        """Return a vocabulary with more tokens appended to some fields.

        Parameters
        ----------
        more : mapping of str to sequence of str
            By field. Known tokens keep their ids.
        """
        tokens, made = {}, dict[tuple[int, tuple[str, ...]], Tokens]()
        for name, known in self.tokens.items():
            present = set(known.tolist())
            new = tuple(token for token in more.get(name, ()) if token not in present)
            # Fields of one table share their tokens, and keep sharing them.
            key = (id(known), new)
            if key not in made:
                made[key] = np.concatenate([known, np.array(new, dtype=np.str_)]) if new else known
            tokens[name] = made[key]
        return Vocabulary(tokens, self.rows)

    # ---- in checkpoints -----------------------------------------------------------------------

    def pack(self) -> Values:
        """Return tensors and plain values, readable with ``weights_only``."""
        packed: Values = {}
        first: dict[int, str] = {}
        for name, tokens in self.tokens.items():
            known = first.setdefault(id(tokens), name)
            packed[name] = {"same_as": known} if known != name else _pack(tokens)
        rows = {name: torch.from_numpy(hashes.copy()) for name, hashes in self.rows.items()}
        return {"tokens": packed, "rows": rows}

    @classmethod
    def unpack(cls, packed: Any, path: str) -> Vocabulary:
        """Read what :meth:`pack` made.

        Parameters
        ----------
        packed : dict
            From a checkpoint.
        path : str
            The checkpoint, for the message.

        Raises
        ------
        DataError
            It holds something else.
        """
        try:
            tokens: dict[str, Tokens] = {}
            for name, value in packed["tokens"].items():
                tokens[str(name)] = (
                    tokens[value["same_as"]] if "same_as" in value else _unpack(value)
                )
            rows = {str(name): hashes.cpu().numpy() for name, hashes in packed["rows"].items()}
            if any(hashes.dtype != np.int64 or hashes.ndim != 1 for hashes in rows.values()):
                raise ValueError("row hashes are not int64")
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise DataError(
                f"The ids in the checkpoint '{path}' cannot be read ({error}): the file is "
                "damaged, or recbole_llmkt did not save it."
            ) from error
        return cls(tokens, rows)

    # ---- against data -------------------------------------------------------------------------

    def difference(self, dataset: Dataset) -> str | None:
        """Describe the first id that a dataset numbers differently; None if all agree.

        Parameters
        ----------
        dataset : recbole.data.dataset.Dataset
            A dataset or a split.
        """
        for name, tokens in self.tokens.items():
            known = dataset.field2id_token.get(name)
            if known is None:
                return f"the data have no field '{name}'"
            if len(known) != len(tokens):
                return f"'{name}' has {len(tokens) - 1} ids there and {len(known) - 1} in the data"
            unequal = np.flatnonzero(np.asarray(known) != tokens)
            if len(unequal):
                row = int(unequal[0])
                return f"row {row} of '{name}' is '{tokens[row]}' there and '{known[row]}' here"
        return None

    def renumber(self, dataset: NumberedDataset) -> None:
        """Renumber a dataset's tokens as in this vocabulary.

        Unknown users and items are left out with their interactions and triples; unknown values
        of other fields (a new genre) become padding. Unknown and departed tokens are logged, and
        kept by field in ``dataset.unknown_tokens`` and ``dataset.departed_tokens``.

        Parameters
        ----------
        dataset : recbole.data.dataset.Dataset
            Fresh from assigning ids; its features are still data frames.
        """
        dataset.unknown_tokens, dataset.departed_tokens = {}, {}
        essential = self._essential(dataset)
        maps = {name: self._map(dataset, name) for name in self.tokens if _has(dataset, name)}
        for feature in dataset.feat_name_list:
            frame = getattr(dataset, feature)
            kept = np.ones(len(frame), dtype=bool)
            for name in [column for column in frame.columns if column in maps]:
                _renumber_column(frame, name, maps[name], dataset.field2type[name])
                if name in essential:
                    kept &= frame[name].to_numpy() > 0
            if not kept.all():
                _drop_rows(dataset, feature, kept)
        for name in maps:
            tokens = self.tokens[name]
            dataset.field2id_token[name] = tokens
            dataset.field2token_id[name] = {token: row for row, token in enumerate(tokens)}
        self._log(dataset)

    def _essential(self, dataset: NumberedDataset) -> set[str]:
        """Return the fields whose unknown tokens drop a row."""
        names = ("uid_field", "iid_field", "head_entity_field", "tail_entity_field")
        fields = {getattr(dataset, name, None) for name in (*names, "relation_field")}
        return {name for name in fields if name}

    def _map(self, dataset: NumberedDataset, name: str) -> IntArray:
        """Return this vocabulary's id for each of the dataset's ids: 0 for unknown tokens."""
        known = {str(token): row for row, token in enumerate(self.tokens[name])}
        today = [str(token) for token in dataset.field2id_token[name]]
        ids = np.array([known.get(token, 0) for token in today], dtype=np.int64)
        dataset.unknown_tokens[name] = [
            token for token, row in zip(today, ids) if not row and token != _PADDING
        ]
        departed = np.ones(len(self.tokens[name]), dtype=bool)
        departed[ids] = departed[0] = False
        dataset.departed_tokens[name] = [str(token) for token in self.tokens[name][departed]]
        return ids

    def _log(self, dataset: NumberedDataset) -> None:
        for name, tokens in dataset.unknown_tokens.items():
            if tokens:
                logger.warning(
                    "%s: %s new since the checkpoint was saved, so it has no row for %s: left out.",
                    name,
                    _counted(tokens),
                    "it" if len(tokens) == 1 else "them",
                )
        for name, tokens in dataset.departed_tokens.items():
            if tokens:
                logger.info("%s: %s no longer in the data.", name, _counted(tokens))

    def restore_order(self, dataset: NumberedDataset) -> None:
        """Restore the order of a renumbered dataset's rows.

        RecBole's random splits, ties in time, and the rounding of sums over a graph depend on it.
        New rows come last.
        """
        for feature in self.rows:
            frame = getattr(dataset, feature, None)
            if frame is None or feature not in dataset.row_hashes:
                continue
            sizes = getattr(dataset, "file_size_list", None) if feature == "inter_feat" else None
            order = _saved_order(self.rows[feature], dataset.row_hashes[feature], sizes)
            dataset.row_hashes[feature] = dataset.row_hashes[feature][order]
            setattr(dataset, feature, frame.iloc[order].reset_index(drop=True))


def hash_rows(dataset: Dataset) -> dict[str, IntArray]:
    """Return a hash of each row of a dataset's interactions and triples: ids and numbers.

    Parameters
    ----------
    dataset : recbole.data.dataset.Dataset
        A whole dataset, before it is split.

    Returns
    -------
    dict of str to ndarray of int64, shape (n_rows,)
    """
    hashes = {}
    for feature in _ORDERED:
        frame = getattr(dataset, feature, None)
        if isinstance(frame, pd.DataFrame):
            numbers = frame.select_dtypes("number")
            values = pd.util.hash_pandas_object(numbers, index=False).to_numpy(np.uint64)
            hashes[feature] = values.view(np.int64)
    return hashes


def _saved_order(saved: IntArray, today: IntArray, sizes: Any = None) -> IntArray:
    """Return the positions of the present rows in the order of the saved ones, new rows last.

    Rows with the same hash keep their order. With ``sizes`` (the files of a benchmark split) rows
    stay within their file.
    """
    by_hash = np.argsort(saved, kind="stable")
    mine = np.argsort(today, kind="stable")
    values = today[mine]
    # The k-th present row with a hash takes the place of the k-th saved one.
    nth = np.arange(len(values)) - np.searchsorted(values, values, side="left")
    slots = np.searchsorted(saved[by_hash], values, side="left") + nth
    matched = slots < np.searchsorted(saved[by_hash], values, side="right")
    place = np.arange(len(saved), len(saved) + len(today), dtype=np.int64)
    place[mine[matched]] = by_hash[slots[matched]]
    part = np.repeat(np.arange(len(sizes)), sizes) if sizes else np.zeros(len(today), dtype=int)
    order: IntArray = np.lexsort((place, part))
    return order


def _has(dataset: Dataset, name: str) -> bool:
    return name in dataset.field2id_token


def _renumber_column(frame: Any, name: str, ids: IntArray, kind: FeatureType) -> None:
    if kind == FeatureType.TOKEN:
        frame[name] = ids[frame[name].to_numpy(dtype=np.int64)]
    else:
        frame[name] = [ids[np.asarray(values, dtype=np.int64)] for values in frame[name]]


def _drop_rows(dataset: NumberedDataset, feature: str, kept: npt.NDArray[np.bool_]) -> None:
    sizes = getattr(dataset, "file_size_list", None)
    if feature == "inter_feat" and sizes:
        ends = np.cumsum(sizes)
        dataset.file_size_list = [
            int(kept[end - size : end].sum()) for size, end in zip(sizes, ends)
        ]
    setattr(dataset, feature, getattr(dataset, feature)[kept].reset_index(drop=True))


def _counted(tokens: list[str]) -> str:
    shown = ", ".join(f"'{token}'" for token in tokens[:_SHOWN])
    more = ", ..." if len(tokens) > _SHOWN else ""
    return f"{len(tokens)} ({shown}{more}) {'is' if len(tokens) == 1 else 'are'}"


def _pack(tokens: Tokens) -> Values:
    encoded = [str(token).encode("utf-8", "surrogatepass") for token in tokens]
    lengths = np.array([len(token) for token in encoded], dtype=np.int64)
    content = np.frombuffer(b"".join(encoded), dtype=np.uint8).copy()
    return {"bytes": torch.from_numpy(content), "lengths": torch.from_numpy(lengths)}


def _unpack(packed: Mapping[str, Any]) -> Tokens:
    content, lengths = packed["bytes"].cpu().numpy(), packed["lengths"].cpu().numpy()
    ends = np.cumsum(lengths)
    if content.dtype != np.uint8 or (lengths < 0).any() or len(content) != (ends[-1:].sum()):
        raise ValueError("tokens do not fill their bytes")
    text = content.tobytes()
    parts = [text[end - size : end] for size, end in zip(lengths.tolist(), ends.tolist())]
    tokens = np.array([part.decode("utf-8", "surrogatepass") for part in parts])
    if not len(tokens) or tokens[0] != _PADDING:
        raise ValueError("row 0 is not the padding")
    return tokens


def numbered_as(vocabulary: Vocabulary, dataset_class: type) -> type:
    """Return a RecBole dataset class that numbers tokens as a vocabulary does.

    Parameters
    ----------
    vocabulary : Vocabulary
        A checkpoint's.
    dataset_class : type
        The class that reads the atomic files.
    """

    class Renumbered(dataset_class):  # type: ignore[misc]
        def _data_filtering(self) -> None:
            self.tokens_in_files = {
                name: set(map(str, self.inter_feat[name].unique()))
                for name in (self.uid_field, self.iid_field)
            }
            super()._data_filtering()

        def _remap_ID_all(self) -> None:  # noqa: N802 - RecBole's name
            super()._remap_ID_all()
            vocabulary.renumber(self)

    Renumbered.__name__ = Renumbered.__qualname__ = dataset_class.__name__
    return Renumbered
