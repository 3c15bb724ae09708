"""pandas 3 does nothing, or something else, where RecBole prepares its data."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pandas as pd
from recbole.data.dataset.dataset import Dataset
from recbole.utils import FeatureType

from recbole_llmkt.compat.interactions import compact_interactions, read_plain
from recbole_llmkt.compat.replacing import replaced

_read_csv = pd.read_csv
_aggregate = pd.Series.agg
_fill_nan = Dataset._fill_nan


@contextmanager
def pandas_data() -> Iterator[None]:
    """Let RecBole read and prepare data as with pandas 2, for the length of the block.

    All places are in ``recbole/data/dataset/dataset.py`` and ``kg_dataset.py``: ``_load_feat``
    and ``_fill_nan`` fill gaps with a chained ``fillna(inplace=True)``, which does nothing in
    pandas 3, and the tokens are read as ``str``, which is no longer ``object`` there; ``_remap``,
    ``_normalize`` and others count with ``Series.agg(len)``, which counts the rows of the column
    there, not those of its lists. pandas 2 warns of all of this, row after row.
    """
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", r"\s*A value is (trying to be|being) set on a copy")
        # Columns are handed out read-only now; torch.LongTensor in _dataframe_to_interaction warns.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        stack.enter_context(replaced(pd, "read_csv", _read_columns))
        stack.enter_context(replaced(pd.Series, "agg", _lengths_by_row))
        stack.enter_context(replaced(Dataset, "_fill_nan", _fill_all))
        stack.enter_context(compact_interactions())
        yield


def _read_columns(*arguments: object, **keywords: object) -> pd.DataFrame:
    """Read atomic files: text as objects, and no gaps in sequences."""
    frame = _read_quickly(*arguments, **keywords)
    for column in frame if isinstance(frame, pd.DataFrame) else ():
        if isinstance(frame[column].dtype, pd.StringDtype):
            frame[column] = frame[column].astype(object)
        if str(column).endswith("_seq"):
            frame[column] = frame[column].fillna("")
    return frame


def _read_quickly(*arguments: Any, **keywords: Any) -> pd.DataFrame:
    """Read with pandas' C engine where it reads the same: it takes a sixth of the time.

    RecBole asks for the Python engine, whose errors are the known ones.
    """
    if keywords.get("engine") == "python" and len(str(keywords.get("delimiter"))) == 1:
        with suppress(ValueError, OSError):
            others = {name: value for name, value in keywords.items() if name != "engine"}
            frame = read_plain(*arguments, **others)
            if frame is not None:
                return frame
    return _read_csv(*arguments, **keywords)


def _lengths_by_row(
    self: pd.Series, func: object = None, *arguments: object, **keywords: object
) -> object:
    if func is len:
        return self.map(len)
    return _aggregate(self, func, *arguments, **keywords)


def _fill_all(self: Dataset) -> None:
    """Fill the gaps; RecBole's own method then finds none, and does what else there is to do."""
    for name in self.feat_name_list:
        feat = getattr(self, name)
        for field in feat:
            kind = self.field2type[field]
            if kind == FeatureType.TOKEN:
                feat[field] = feat[field].fillna(0)
            elif kind == FeatureType.FLOAT:
                feat[field] = feat[field].fillna(feat[field].mean())
    _fill_nan(self)
