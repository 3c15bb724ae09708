"""Interactions that are read, counted and split compactly are RecBole's, value by value."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.data import create_dataset as stock_dataset
from recbole.utils import init_seed

from recbole_llmkt.compat import (
    create_dataset,
    interactions,
    pandas,
    pandas_data,
    release_when_split,
)

PLAIN = "user_id:token\trating:float\ttags:token_seq\nü\t0.1\tx y\n01\t\t\nNA\t1e400\ta'b\n"
ODD = {
    "quotes": PLAIN + '"a\tb"\t1\tx\n',
    "a quote that does not end": PLAIN + '"a\t1\tx\n',
    "NUL": PLAIN + "a\x00\t1\tx\n",
    "a vertical tab": PLAIN + "\x0b\t1\tx\n",
    "Windows": PLAIN.replace("\n", "\r\n"),
    "an empty line": PLAIN + "\n\nz\t1\tx\n",
    "a cell too few": PLAIN + "z\t1\n",
    "a cell too many": PLAIN.replace("0.1\tx", "0.1\tx\t"),
    "zero": PLAIN.replace("0.1", "-0").replace("1e400", "2"),
    "a mark at the start": "\ufeff" + PLAIN,
    "one column": "user_id:token\na\n \nb\n",
    "no rows": PLAIN.partition("\n")[0] + "\n",
    "no text": PLAIN.encode() + b"\xff\t1\tx\n",
}


PANDAS_2 = int(pd.__version__.partition(".")[0]) > 1  # the C engine of earlier ones refuses 1e400
READ = {"delimiter": "\t", "encoding": "utf-8", "engine": "python"}


def read_by(monkeypatch, **keywords):
    """Return how the loaded columns of a file are read, or the error, and by which engines."""
    engines, read = [], pd.read_csv

    def noted(*arguments, **given):
        engines.append(given["engine"])
        return read(*arguments, **given)

    for module in (pandas, interactions):
        monkeypatch.setattr(module, "_read_csv", noted)
    try:
        frame = pandas._read_quickly("file", **keywords, **READ)
    except ValueError as error:
        return f"{type(error).__name__}: {error}", engines
    return [(name, [repr(cell) for cell in column]) for name, column in frame.items()], engines


@pytest.mark.parametrize("name", ["plain", *ODD])
@pytest.mark.parametrize("characters", [2, 2**24])
def test_the_quick_engine_reads_only_what_both_read_alike(monkeypatch, name, characters):
    content = ODD.get(name, PLAIN)
    Path("file").write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.setattr(interactions, "_CHARACTERS", characters)
    monkeypatch.setattr(interactions, "_ROWS", 2)
    types = {"user_id:token": str, "rating:float": np.float64, "tags:token_seq": str}
    given = {"usecols": list(types)[: 1 if name == "one column" else 3], "dtype": types}
    made, engines = read_by(monkeypatch, **given)
    monkeypatch.setattr(interactions, "_is_plain", lambda *arguments: False)
    assert made == read_by(monkeypatch, **given)[0]
    if name != "plain" or PANDAS_2:
        assert engines[-1] == ("c" if name in ("plain", "no rows") else "python")
