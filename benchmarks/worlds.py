"""Make sparser worlds of a data set: the same test, fewer training interactions.

    python benchmarks/worlds.py ml-100k --output=FOLDER [--shares=100,50,20,10,5] [--data_path=DATA]

writes FOLDER/<dataset>-<share>/ for each share, in percent, as RecBole's benchmark files (train,
valid, test). The samples are nested: what trains at 5% trains at 10% too. FOLDER/<dataset>-cold/
is the whole training part without the clicks on a random tenth of the items. Validation and test
stay as they are.

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


def split_tables(config: Config) -> list[pd.DataFrame]:
    """Return the interactions of the three parts: tokens of users and items, ratings if any."""
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


def worlds(tables: list[pd.DataFrame], shares: list[int]) -> dict[str, list[pd.DataFrame]]:
    """Return the parts of each world by its name."""
    train, *rest = tables
    rng = np.random.default_rng(SEED)
    order = rng.permutation(len(train))
    made = {}
    for share in shares:
        kept = np.sort(order[: round(len(train) * share / 100)])
        made[str(share)] = [train.iloc[kept], *rest]
    clicked = train.iloc[:, 1]
    items = np.unique(clicked)
    cold = rng.choice(items, round(len(items) * COLD_SHARE), replace=False)
    made["cold"] = [train[~clicked.isin(cold)], *rest]
    return made


@click.command()
@click.argument("dataset")
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Folder.")
@click.option("--shares", default="100,50,20,10,5", show_default=True, help="Percent.")
@click.option("--data_path", help="Folder that holds the data set; RecBole's own by default.")
@click.option("--config-files", help="Configuration of the data set, such as its split.")
def main(
    dataset: str, output: Path, shares: str, data_path: str | None, config_files: str | None
) -> None:
    """Write the worlds of DATASET into a folder."""
    keys = {"kt_enabled": False, **({"data_path": data_path} if data_path else {})}
    files = [config_files] if config_files else None
    config = Config("BPR", dataset, files, keys, command_line=[])
    source = Path(config["data_path"])
    tables = split_tables(config)
    for name, parts in worlds(tables, list(map(int, shares.split(",")))).items():
        folder = output / f"{dataset}-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        for part, table in zip(PARTS, parts):
            table.to_csv(folder / f"{folder.name}.{part}.inter", sep="\t", index=False)
        for kind in ("user", "item"):
            if (source / f"{dataset}.{kind}").is_file():
                shutil.copy(source / f"{dataset}.{kind}", folder / f"{folder.name}.{kind}")
        click.echo(f"{folder}: {len(parts[0]):,} training interactions")


if __name__ == "__main__":
    main()
