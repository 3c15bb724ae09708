"""Checks of a run's data: of the atomic files before RecBole reads them, and of the result."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import recbole
from recbole.utils import FeatureType, ModelType

from recbole_llmkt.datasets.atomic import COLUMN_TYPES, AtomicFile, read_header
from recbole_llmkt.utils.exceptions import DataError, nearest
from recbole_llmkt.utils.parsing import load_yaml
from recbole_llmkt.utils.types import Dataset, RunConfig, Settings


def downloadable() -> Settings:
    """Return the datasets that RecBole knows how to download."""
    return load_yaml(Path(recbole.__file__).parent / "properties" / "dataset" / "url.yaml")


def check_files(config: RunConfig, strict: bool = True) -> None:
    """Check that the atomic files and columns that a run needs exist.

    Parameters
    ----------
    config : Config
        The run's configuration.
    strict : bool
        False skips missing files, and columns of ``load_col`` that no file has: writing profiles
        needs less than a run.

    Raises
    ------
    DataError
        Naming the file or the column, where it was looked for, and the fix.
    """
    folder = Path(config["data_path"])
    for place in (folder.parent, folder):
        if place.exists() and not place.is_dir():
            raise DataError(f"data_path: {place} is a file: name the folder that holds the data.")
    if not folder.is_dir():
        if config["dataset"] in downloadable():
            return
        name = config["dataset"]
        others = [path.name for path in folder.parent.glob("*/") if _is_dataset(path)]
        raise DataError(
            f"There is no dataset '{name}': the folder {folder} does not exist (seen from "
            f"{Path.cwd()}). Put {name}.inter there, or correct `dataset` or `data_path`."
            f"{nearest(name, ['ml-100k', *others])}"
        )
    loaded: dict[str, str] = {}
    for source, columns in _wanted(config).items():
        for path in _files(config, source):
            if not strict and not path.is_file():
                continue
            header = read_header(path, config)
            if strict:
                _check_columns(path, header, columns)
            loaded.update(_loaded(config, source, header))
    for needed in (*_needed(config), *_needed_by_model(config)) if loaded else ():
        _require(loaded, needed)


def _is_dataset(folder: Path) -> bool:
    return any(folder.glob(f"{glob.escape(folder.name)}.*inter"))


# ---- files and columns ------------------------------------------------------------------------


def _files(config: RunConfig, source: str) -> Iterator[Path]:
    stem = Path(config["data_path"]) / config["dataset"]
    parts = config["benchmark_filename"] if source == "inter" else None
    for part in parts or [None]:
        yield stem.with_name(f"{stem.name}.{part}.{source}" if part else f"{stem.name}.{source}")


def _wanted(config: RunConfig) -> dict[str, dict[str, str]]:
    """Return the required columns of each atomic file, and the key that requires them."""
    wanted: dict[str, dict[str, str]] = {"inter": {}}
    for source, columns in (config["load_col"] or {}).items():
        listed = [] if columns in (None, "*") else columns
        wanted[source] = dict.fromkeys(listed, f"load_col, {source}")
    wanted["inter"].update(
        {config[key]: key for key in ("USER_ID_FIELD", "ITEM_ID_FIELD") if config[key]}
    )
    for suffix in config["additional_feat_suffix"] or []:
        wanted.setdefault(suffix, {})
    return wanted


def _check_columns(path: Path, header: dict[str, str], columns: dict[str, str]) -> None:
    for column, key in columns.items():
        if column not in header:
            raise DataError(
                f"{path} has no column '{column}' ({key}).{nearest(column, header)} Its columns "
                f"are {', '.join(header)}: correct {key.partition(',')[0]} or the file's header."
            )


def _loaded(config: RunConfig, source: str, header: dict[str, str]) -> dict[str, str]:
    """Return the columns of a file that RecBole loads, and their types."""
    listed = None if config["load_col"] is None else config["load_col"].get(source, [])
    left_out = (config["unload_col"] or {}).get(source, [])
    return {
        name: kind
        for name, kind in header.items()
        if (listed in (None, "*") or name in listed) and name not in left_out
    }


# ---- columns that other settings need ------------------------------------------------------------


class Needed(NamedTuple):
    """A column that must be loaded: who needs it, its name, the key that names it, its types."""

    what: str
    column: str | None
    key: str = ""
    types: tuple[str, ...] = COLUMN_TYPES
    source: str = "inter"


_FLOATS = ("float", "float_seq")
_KEYS_OF_COLUMNS = {
    **dict.fromkeys(("val_interval", "alias_of_user_id", "alias_of_item_id"), COLUMN_TYPES),
    **dict.fromkeys(("normalize_field", "discretization"), _FLOATS),
}


def _needed(config: RunConfig) -> Iterator[Needed]:
    """Return the columns that settings need among those that are loaded."""
    benchmark, eval_args = config["benchmark_filename"], config["eval_args"]
    for key in ("USER_ID_FIELD", "ITEM_ID_FIELD"):
        yield Needed("every run", config[key], key, ("token",))
    if eval_args["order"] == "TO" and not benchmark:
        yield Needed("order: TO", config["TIME_FIELD"], "TIME_FIELD", ("float",))
    if "TS" in eval_args["split"] and not benchmark:
        yield Needed("split: TS", config["TIME_FIELD"], "TIME_FIELD", ("float",))
    if "labeled" in eval_args["mode"].values() and not config["threshold"]:
        yield Needed("mode: labeled", config["LABEL_FIELD"], "LABEL_FIELD", ("float",))
    for column in config["threshold"] or {}:
        yield Needed("threshold", column, types=("float",))
    for key, types in _KEYS_OF_COLUMNS.items():
        for column in config[key] or ():
            yield Needed(key, column, types=types)
    for source, columns in (config["unused_col"] or {}).items():
        yield from (Needed(f"unused_col ({source})", name, source=source) for name in columns)


def _needed_by_model(config: RunConfig) -> Iterator[Needed]:
    model, kind = config["model"], config["MODEL_TYPE"]
    if kind == ModelType.SEQUENTIAL and config["benchmark_filename"]:
        items = config["ITEM_ID_FIELD"] + config["LIST_SUFFIX"]
        yield Needed(f"{model} on benchmark files", items, types=("token_seq",))
    elif kind == ModelType.SEQUENTIAL:
        yield Needed(model, config["TIME_FIELD"], "TIME_FIELD", ("float",))
    for key in ("selected_features", "item_attribute"):
        columns = config[key] or []
        for column in [columns] if isinstance(columns, str) else columns:
            yield Needed(f"{model} ({key})", column, source="item")
    if kind == ModelType.KNOWLEDGE:
        for key in ("HEAD_ENTITY_ID_FIELD", "RELATION_ID_FIELD", "TAIL_ENTITY_ID_FIELD"):
            yield Needed(model, config[key], key, ("token",), "kg")
        yield Needed(model, config["ENTITY_ID_FIELD"], "ENTITY_ID_FIELD", ("token",), "link")


def _require(loaded: dict[str, str], needed: Needed) -> None:
    what, column, key, types, source = needed
    if column is None:
        raise DataError(f"{what} needs {key}: name the column of the .{source} file.")
    if column not in loaded:
        named = f" ({key})" if key else ""
        label = key == "LABEL_FIELD"
        fix = ", or a column to make it from (threshold: {rating: 4})" if label else ""
        raise DataError(f"{what} needs '{column}'{named} in load_col, {source}{fix}.")
    if loaded[column] not in types:
        raise DataError(
            f"{what} needs '{column}' as {' or '.join(types)}, and the file's header says "
            f"{loaded[column]}: correct the header or the key."
        )


# ---- numbers of items ----------------------------------------------------------------------------


def check_candidates(config: RunConfig) -> None:
    """Check that there are at least topk items, reading no more rows than necessary.

    Filters may leave fewer; :func:`check_loaded` counts those.

    Raises
    ------
    DataError
        There are fewer.
    """
    wanted, items = max(config["topk"]), set()
    for source in ("inter", "item"):
        if source != "inter" and source not in (config["load_col"] or {source: []}):
            continue
        for path in filter(Path.is_file, _files(config, source)):
            for token in _column(path, config, config["ITEM_ID_FIELD"]):
                items.add(token)
                if len(items) >= wanted:
                    return
    if items:
        raise DataError(_too_few(wanted, len(items)))


def _column(path: Path, config: RunConfig, column: str) -> Iterator[str]:
    table = AtomicFile(path, config)
    if column in table.columns:
        yield from (row[column] for row in table.rows())


def _too_few(wanted: int, n_items: int) -> str:
    return f"topk: {wanted} is more than the {n_items:,} items of the dataset: lower topk."


# ---- after loading -------------------------------------------------------------------------------


def check_loaded(config: RunConfig, dataset: Dataset, training: Dataset) -> None:
    """Check what is known only after RecBole has read, filtered and split the data.

    Parameters
    ----------
    config : Config
        The run's configuration.
    dataset : Dataset
        All of the data.
    training : Dataset
        The training part.

    Raises
    ------
    DataError
        One line: what, where, and the fix.
    """
    for check in LOADED_CHECKS:
        wrong = check(config, dataset, training)
        if wrong:
            raise DataError(wrong)


def _no_training(config: RunConfig, dataset: Dataset, training: Dataset) -> str | None:
    if len(training) > 0:
        return None
    return (
        f"The training part of '{config['dataset']}' is empty: check eval_args and the filters "
        "(user_inter_num_interval, item_inter_num_interval, val_interval)."
    )


def _few_items(config: RunConfig, dataset: Dataset, training: Dataset) -> str | None:
    wanted, n_items = max(config["topk"]), dataset.item_num - 1  # without the padding
    return _too_few(wanted, n_items) if wanted > n_items else None


def _many_negatives(config: RunConfig, dataset: Dataset, training: Dataset) -> str | None:
    """Check that no more negatives are drawn for an interaction than there are items."""
    n_items = dataset.item_num - 1
    for key in ("sample_num", "candidate_num"):
        wanted = config["train_neg_sample_args"].get(key)
        if isinstance(wanted, int) and wanted > n_items:  # "none" where there is no sampling
            return (
                f"train_neg_sample_args: {key}: {wanted:,} is more than the {n_items:,} items of "
                "the dataset: lower it."
            )
    return None


def _no_label(config: RunConfig, dataset: Dataset, training: Dataset) -> str | None:
    """Check that a context-aware model has labels."""
    sampled = config["train_neg_sample_args"].get("distribution", "none") != "none"
    known = sampled or config["LABEL_FIELD"] in training.inter_feat.interaction
    if config["MODEL_TYPE"] != ModelType.CONTEXT or known:
        return None
    return (
        f"{config['model']} learns from labels, and the interactions of '{config['dataset']}' "
        f"have no column '{config['LABEL_FIELD']}'. Make one from another column (threshold: "
        "{rating: 4}), name it (LABEL_FIELD), or sample negatives (train_neg_sample_args)."
    )


def _one_label(config: RunConfig, dataset: Dataset, training: Dataset) -> str | None:
    """Check that labels tell interactions apart, where they are learned or measured."""
    label, modes = config["LABEL_FIELD"], config["eval_args"]["mode"].values()
    columns = dataset.inter_feat.interaction
    sampled = config["train_neg_sample_args"].get("distribution", "none") != "none"
    learned = config["MODEL_TYPE"] == ModelType.CONTEXT and not sampled
    if label not in columns or not (learned or "labeled" in modes):
        return None
    low, high = float(columns[label].min()), float(columns[label].max())
    if low < high:
        return None
    return (
        f"All interactions of '{config['dataset']}' have the label {low:g} ({label}), so there is "
        "nothing to tell apart: correct threshold, val_interval or the column."
    )


def _one_sided_floats(config: RunConfig, dataset: Dataset, training: Dataset) -> str | None:
    """Check that both of DSSM's towers have float columns, or neither."""
    if config["model"] != "DSSM":
        return None
    sides = {}
    for side, feat in (("user", dataset.user_feat), ("item", dataset.item_feat)):
        names = [] if feat is None else list(feat.interaction)
        floats = (FeatureType.FLOAT, FeatureType.FLOAT_SEQ)
        read = [name for name in names if name in (config["numerical_features"] or [])]
        sides[side] = [name for name in read if dataset.field2type[name] in floats]
    if bool(sides["user"]) == bool(sides["item"]):
        return None
    side = "user" if sides["user"] else "item"
    return (
        f"DSSM cannot have float columns on one side only: remove {', '.join(sides[side])} from "
        f"numerical_features, or add one of the other side."
    )


def _few_for_clusters(config: RunConfig, dataset: Dataset, training: Dataset) -> str | None:
    """Check that NCL has at least as many users and items as clusters."""
    fewest = min(dataset.user_num, dataset.item_num)
    if config["model"] != "NCL" or config["num_clusters"] <= fewest:
        return None
    return (
        f"num_clusters: {config['num_clusters']}: NCL cannot make that many clusters of "
        f"{dataset.user_num:,} users and {dataset.item_num:,} items: lower it."
    )


LOADED_CHECKS: tuple[Callable[[RunConfig, Dataset, Dataset], str | None], ...] = (
    _no_training,
    _few_items,
    _many_negatives,
    _no_label,
    _one_label,
    _one_sided_floats,
    _few_for_clusters,
)
