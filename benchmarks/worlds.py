"""Make sparser worlds of a data set: the same test, fewer training interactions.

    python benchmarks/worlds.py ml-100k --output=FOLDER [--shares=100,50,20,10,5] [--data_path=DATA]

writes FOLDER/<dataset>-<share>/ for each share, in percent, as RecBole's benchmark files (train,
valid, test). The samples are nested: what trains at 5% trains at 10% too. FOLDER/<dataset>-cold/
is the whole training part without the clicks on a random tenth of the items. Validation and test
stay as they are.

``--sequential`` writes FOLDER/<dataset>-seq-<share>/ for sequential models, which take one file:
each user's last click is the test, the one before it validates (``LS: valid_and_test``), and the
two before those always stay, so that every user keeps a place in all three parts. The time of a
click is its place in the user's history.

Profiles of users that were written from the whole training part know more than a sparse world
holds: only profiles of items are honest there.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import click
import numpy as np
import pandas as pd

from recbole_llmkt.config import Config
from recbole_llmkt.datasets.splits import build_splits

PARTS = ("train", "valid", "test")
SEED = 2026
COLD_SHARE = 0.1
# A sequence has an item to predict and one before it; each of the three parts needs one of them.
KEPT = 2
LEAVE_ONE_OUT = {
    "split": {"LS": "valid_and_test"},
    "order": "TO",
    "group_by": "user",
    "mode": "full",
}


def split_tables(config: Config) -> list[pd.DataFrame]:
    """Return the interactions of the three parts: tokens of users and items, ratings if any.

    Those of a user are in the order of the split.
    """
    tables = []
    for dataset in build_splits(config):
        columns = {
            f"{field}:token": dataset.id2token(field, dataset.inter_feat[field].numpy())
            for field in (dataset.uid_field, dataset.iid_field)
        }
        if (rating := config["RATING_FIELD"]) in dataset.inter_feat.interaction:
            columns[f"{rating}:float"] = dataset.inter_feat[rating].numpy()
        tables.append(pd.DataFrame(columns))
    return tables


def sampled(
    train: pd.DataFrame, shares: list[int], rng: np.random.Generator, last: int = 0
) -> dict[int, pd.DataFrame]:
    """Return nested samples of the training part by their share of it, in percent.

    They begin with the ``last`` interactions of every user.
    """
    order = rng.permutation(len(train))
    behind = train.groupby(train.columns[0]).cumcount(ascending=False).to_numpy()
    order = np.concatenate([order[behind[order] < last], order[behind[order] >= last]])
    sizes = {share: round(len(train) * share / 100) for share in shares}
    return {share: train.iloc[np.sort(order[:size])] for share, size in sizes.items()}


def sequences(tables: list[pd.DataFrame], shares: list[int]) -> dict[str, pd.DataFrame]:
    """Return the interactions of each sequential world by its name."""
    train, *rest = tables
    made = {}
    for share, kept in sampled(train, shares, np.random.default_rng(SEED), KEPT).items():
        whole = pd.concat([kept, *rest], ignore_index=True)
        whole["timestamp:float"] = whole.groupby(whole.columns[0]).cumcount()
        made[f"seq-{share}"] = whole
    return made


def worlds(tables: list[pd.DataFrame], shares: list[int]) -> dict[str, list[pd.DataFrame]]:
    """Return the parts of each world by its name."""
    train, *rest = tables
    rng = np.random.default_rng(SEED)
    samples = sampled(train, shares, rng)
    made = {str(share): [kept, *rest] for share, kept in samples.items()}
    clicked = train.iloc[:, 1]
    items = np.unique(clicked)
    cold = rng.choice(items, round(len(items) * COLD_SHARE), replace=False)
    made["cold"] = [train[~clicked.isin(cold)], *rest]
    return made


def percents(context: click.Context, option: click.Parameter, text: str) -> list[int]:
    """Read whole numbers from 1 to 100 with commas between them."""
    numbers = [int(part) if part.isdecimal() else 0 for part in text.split(",")]
    if not all(1 <= number <= 100 for number in numbers):
        raise click.BadParameter(f"'{text}': give percents such as 100,20,5.")
    return numbers


@click.command()
@click.argument("dataset")
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Folder.")
@click.option(
    "--shares", default="100,50,20,10,5", show_default=True, callback=percents, help="Percent."
)
@click.option("--data_path", help="Folder that holds the data set; RecBole's own by default.")
@click.option("--config-files", help="Configuration of the data set, such as its split.")
@click.option("--sequential", is_flag=True, help="For sequential models: leave one out.")
def main(
    dataset: str,
    output: Path,
    shares: list[int],
    data_path: str | None,
    config_files: str | None,
    sequential: bool,
) -> None:
    """Write the worlds of DATASET into a folder."""
    keys = {"kt_enabled": False, **({"data_path": data_path} if data_path else {})}
    if sequential:
        keys["eval_args"] = LEAVE_ONE_OUT
    files = [config_files] if config_files else None
    config = Config("BPR", dataset, files, keys, command_line=[])
    source = Path(config["data_path"])
    tables = split_tables(config)
    if sequential:
        files_of = {name: {"inter": whole} for name, whole in sequences(tables, shares).items()}
    else:
        files_of = {
            name: {f"{part}.inter": table for part, table in zip(PARTS, parts)}
            for name, parts in worlds(tables, shares).items()
        }
    for name, contents in files_of.items():
        folder = output / f"{dataset}-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        for ending, table in contents.items():
            table.to_csv(folder / f"{folder.name}.{ending}", sep="\t", index=False)
        for kind in ("user", "item"):
            if (source / f"{dataset}.{kind}").is_file():
                shutil.copy(source / f"{dataset}.{kind}", folder / f"{folder.name}.{kind}")
        rows = ", ".join(f"{len(table):,} in {ending}" for ending, table in contents.items())
        click.echo(f"{folder}: {rows}")


if __name__ == "__main__":
    main()
