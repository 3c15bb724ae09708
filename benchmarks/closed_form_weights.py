"""What the weight of the profiles does to EASE, by the model's own ridge.

    python benchmarks/closed_form_weights.py ml-100k-20 --data_path=DATA --profile_dir=PROFILES

prints the best validation NDCG@10 (never the test) for each weight, over all ridges: which default
holds on several data sets? The weight 0 is RecBole's own EASE. benchmarks/worlds.py makes the data.
"""

from __future__ import annotations

import argparse
import logging
import warnings

from tabulate import tabulate
from tqdm import tqdm

from recbole_llmkt.config import Config
from recbole_llmkt.quick_start import train
from recbole_llmkt.utils.exceptions import LLMKTError

RIDGES = (1.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0)
WEIGHTS = (0.0, 30.0, 100.0, 200.0, 300.0, 500.0, 1000.0, 2000.0, 3000.0)
SETTINGS = {
    "benchmark_filename": ["train", "valid", "test"],
    "load_col": {"inter": ["user_id", "item_id"]},
    "metrics": ["NDCG"],
    "valid_metric": "NDCG@10",
    "topk": [10],
    "metric_decimal_place": 6,
    "eval_batch_size": 2_000_000,
    "show_progress": False,
    "kt_closed_form": "drawn",
    "kt_fast_ranking": True,
}


def validated(dataset: str, keys: dict[str, str], weight: float, ridge: float) -> float:
    """Return the validation NDCG@10 of one run."""
    point = {"kt_closed_form_weight": weight, "reg_weight": ridge}
    config = Config("EASE", dataset, config_dict={**SETTINGS, **keys, **point}, command_line=[])
    return float(train(config, saved=False, verbose=False, evaluate_test=False)["best_valid_score"])


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", metavar="DATASET")
    parser.add_argument("--data_path", required=True, help="folder of the data sets")
    parser.add_argument("--profile_dir", required=True, help="folder of the items' profiles")
    parser.add_argument("--profile_max_tokens", type=int, default=2000)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    keys = {key: value for key, value in vars(options).items() if key != "datasets"}
    rows = []
    for dataset in options.datasets:
        row: list[object] = [dataset]
        try:
            for weight in tqdm(WEIGHTS, desc=dataset):
                row.append(max(validated(dataset, keys, weight, ridge) for ridge in RIDGES))
        except LLMKTError as error:
            parser.exit(1, f"{error}\n")
        rows.append(row)
    headers = ["data", *(f"w = {weight:g}" for weight in WEIGHTS)]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=".4f"))


if __name__ == "__main__":
    main()
