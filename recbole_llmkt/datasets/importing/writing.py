"""The atomic files and the configuration of an import, all of them or none."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

import recbole

from recbole_llmkt.datasets.importing.cleaning import sequence_separator
from recbole_llmkt.datasets.importing.columns import Columns, strings
from recbole_llmkt.datasets.importing.repeats import SPLIT
from recbole_llmkt.utils import resources
from recbole_llmkt.utils.exceptions import DataError
from recbole_llmkt.utils.files import replacing
from recbole_llmkt.utils.progress import tqdm
from recbole_llmkt.utils.text import flow_yaml
from recbole_llmkt.utils.types import Settings

_SUFFIXES = ("inter", "item", "user", "yaml")
_BLOCK = 50_000
# Numbers about one interaction that a prompt may want, and no model takes for a feature unasked.
_MEASURES = {
    "qty",
    "quantity",
    "price",
    "amount",
    "total",
    "count",
    "plays",
    "duration",
    "discount",
}


def check_target(folder: Path, dataset: str, making: set[str], overwrite: bool) -> None:
    """Refuse a name that RecBole has settings for, and files that are there already.

    Parameters
    ----------
    folder : Path
        The dataset's folder.
    dataset : str
        Its name.
    making : set of str
        Suffixes of the files to write.
    overwrite : bool
        Replace them.

    Raises
    ------
    DataError
        One line: what, where, the fix.
    """
    if not re.fullmatch(r"\w[\w.-]*", dataset):
        raise DataError(
            f"--dataset={dataset}: a dataset's name has letters, digits, '-', '_' and '.' alone."
        )
    with_settings = Path(recbole.__file__).parent / "properties" / "dataset" / f"{dataset}.yaml"
    if with_settings.is_file() or dataset in resources.names("dataset"):
        raise DataError(
            f"--dataset={dataset} is a public dataset that has settings of its own: choose another "
            "name."
        )
    there = [suffix for suffix in _SUFFIXES if (folder / f"{dataset}.{suffix}").exists()]
    if there and not overwrite:
        raise DataError(
            f"'{folder}' holds {', '.join(f'{dataset}.{suffix}' for suffix in there)} already: "
            "replace them with --overwrite, or choose another --dataset or --output."
        )
    left = [suffix for suffix in there if suffix not in making]
    if left:
        raise DataError(
            f"'{folder / dataset}.{left[0]}' is of an earlier import: give --{left[0]}s=FILE as "
            "well, or delete it."
        )


def write_dataset(
    folder: Path, dataset: str, tables: Mapping[str, Columns], domain: str, command: str
) -> Path:
    """Write the atomic files and ``<dataset>.yaml``, and return the latter's path.

    All files are written beside their targets first, and then put in place.

    Parameters
    ----------
    folder : Path
        The dataset's folder, made if it is not there. What else is in it stays, such as profiles.
    dataset : str
        The dataset's name.
    tables : mapping of str to Columns
        By suffix: ``inter``, ``item``, ``user``.
    domain : str
        What the items are.
    command : str
        The command, for the first line of the configuration.

    Raises
    ------
    StorageError
        The files cannot be written; earlier ones are as they were.
    """
    separator = _separator(tables)
    text = _configuration(folder, dataset, tables, domain, separator, command)
    try:
        with ExitStack() as stack:
            files = {
                suffix: stack.enter_context(replacing(folder / f"{dataset}.{suffix}", "--output"))
                for suffix in (*tables, "yaml")
            }
            for suffix, columns in tables.items():
                _write_table(files[suffix], columns, separator)
            files["yaml"].write(text.encode())
            for file in files.values():
                file.flush()  # a full disk shows before the first file is put in place
    except BaseException:
        with suppress(OSError):
            folder.rmdir()  # if nothing was in it
        raise
    return folder / f"{dataset}.yaml"


def _separator(tables: Mapping[str, Columns]) -> str:
    if "item" not in tables or "category" not in tables["item"].frame:
        return sequence_separator(())
    return sequence_separator({part for cell in tables["item"].frame["category"] for part in cell})


def _write_table(binary: BinaryIO, columns: Columns, separator: str) -> None:
    file = io.TextIOWrapper(binary, encoding="utf-8", newline="")
    writer = csv.writer(file, delimiter="\t", lineterminator="\n")
    writer.writerow([f"{name}:{kind}" for name, kind in columns.types.items()])
    n_rows = len(columns.frame)
    with tqdm(total=n_rows, unit=" rows", delay=2) as bar:
        for start in range(0, n_rows, _BLOCK):
            block = columns.frame.iloc[start : start + _BLOCK]
            writer.writerows(zip(*(strings(block[name], separator.join) for name in columns.types)))
            bar.update(len(block))
    file.detach()


# ---- the configuration ---------------------------------------------------------------------------


def _configuration(
    folder: Path,
    dataset: str,
    tables: Mapping[str, Columns],
    domain: str,
    separator: str,
    command: str,
) -> str:
    inter = tables["inter"].types
    item = tables["item"].types if "item" in tables else {}
    has_time = "timestamp" in inter
    files: Settings = {"dataset": dataset, "data_path": str(folder.parent)}
    files.update(USER_ID_FIELD="user_id", ITEM_ID_FIELD="item_id")
    files.update({"TIME_FIELD": "timestamp"} if has_time else {})
    files.update({"RATING_FIELD": "rating"} if "rating" in inter else {})
    files["load_col"] = {"inter": _loaded(inter)}
    split = {
        "eval_args": {
            "split": {"RS": list(SPLIT)},
            "order": "TO" if has_time else "RO",
            "group_by": "user",
        }
    }
    profiles = {"profile_domain": domain}
    for key, column in (("title", "title"), ("category", "category"), ("text", "description")):
        profiles.update({f"profile_{key}_field": column} if column in item else {})
    order = "in the order of time" if has_time else "at random, as there is no time"
    parts = [
        f"# Written by: {command}\n# For every command: --config-files={folder / dataset}.yaml",
        _dump(files),
        "# The sign between the parts of a token_seq; parts may have blanks.\n"
        + _dump({"seq_separator": separator}),
        f"# Per user, {order}: 70% train, 10% validate, 20% test.\n" + _dump(split),
        "# What profiles are written from.\n" + _dump(profiles),
    ]
    if item:
        features = [name for name in item if name not in ("title", "description")]
        parts.append(
            "# Models that read features (DeepFM, ...) want these in load_col, too:\n"
            f"#   item: [{', '.join(features)}]\n"
        )
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _loaded(inter: Mapping[str, str]) -> list[str]:
    """Return the columns to load: what every run needs, and numbers that prompts may want."""
    standard = [name for name in ("user_id", "item_id", "rating", "timestamp") if name in inter]
    measures = [
        name
        for name, kind in inter.items()
        if kind == "float"
        and name not in standard
        and _MEASURES.intersection(name.lower().split("_"))
    ]
    return standard + measures


def _dump(values: Settings) -> str:
    return "".join(f"{key}: {flow_yaml(value)}\n" for key, value in values.items())
