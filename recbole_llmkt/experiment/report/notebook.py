"""A comparison's results in a notebook: as a table of pandas, and as figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recbole_llmkt.experiment.report.findings import Findings, read_records
from recbole_llmkt.utils.exceptions import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def results(folder: str | Path) -> pd.DataFrame:
    """Return the runs of a comparison, a row for each.

    Parameters
    ----------
    folder : str or Path
        What ``llmkt compare --output`` named.

    Returns
    -------
    pandas.DataFrame
        Columns ``model``, ``arm``, ``seed``, ``status`` ("ok" or "failed"), a column for each test
        metric (NaN where a run failed), ``epochs``, ``seconds`` and ``error``; sorted by model,
        arm and seed.

    Raises
    ------
    DataError
        There are no results in the folder, or they cannot be read.

    Examples
    --------
    >>> table = results("out")  # doctest: +SKIP
    >>> table.groupby(["model", "arm"])["ndcg@10"].agg(["mean", "std"])  # doctest: +SKIP
    """
    import pandas as pd

    records = read_records(Path(folder))
    rows = [
        {
            **{name: getattr(record, name) for name in ("model", "arm", "seed", "status")},
            **record.test,
            **{name: getattr(record, name) for name in ("epochs", "seconds", "error")},
        }
        for record in records
    ]
    metrics = dict.fromkeys(name for record in records for name in record.test)
    order = ["model", "arm", "seed", "status", *metrics, "epochs", "seconds", "error"]
    return pd.DataFrame(rows).reindex(columns=order)


def plot(folder: str | Path, name: str = "gains") -> Figure:
    """Return a picture of a comparison's report, which a notebook shows.

    Parameters
    ----------
    folder : str or Path
        What ``llmkt compare --output`` named.
    name : str
        ``gains``, ``summary``, ``curves``, ``slices`` or ``map``.

    Raises
    ------
    ConfigError
        There is no picture of that name.
    DataError
        There are no results in the folder, they cannot be read, or they hold nothing for this
        picture.
    """
    from recbole_llmkt.experiment.report.figures import LIGHT
    from recbole_llmkt.experiment.report.report import PICTURES

    if name not in PICTURES:
        raise ConfigError(f"plot: '{name}' is no picture; choose from {', '.join(PICTURES)}.")
    figure = PICTURES[name][1](Findings.read(Path(folder)), LIGHT)
    if figure is None:
        raise DataError(f"The results in '{folder}' hold nothing that the picture '{name}' shows.")
    return figure
