"""Memory and seconds of EASE with item profiles, for many items.

    python benchmarks/closed_form.py [--items 10000,30000] [--kinds none,drawn,rows]

Random interactions (twenty an item) and a profile for every item, with a vector 384 wide. Each
figure is of a whole run in a process of its own: data, solution, one validation, checkpoint.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from processes import counts, figures_of
from tabulate import tabulate

from recbole_llmkt.config import Config
from recbole_llmkt.profiles.embeddings import embedding_paths, text_digest
from recbole_llmkt.quick_start import train

KINDS = ("none", "drawn", "rows")
WIDTH, PER_ITEM, PER_USER, NAME = 384, 20, 40, "random"
REST = {"generator": NAME, "model": "", "prompt": "", "history": None, "time": "2026-01-01"}


def write_data(folder: Path, items: int) -> None:
    """Write interactions, profiles and their vectors."""
    home = folder / NAME
    vectors_path, ids_path = embedding_paths(home / "profiles", NAME, "item")
    vectors_path.parent.mkdir(parents=True)
    rng = np.random.default_rng(0)
    np.save(vectors_path, rng.standard_normal((items, WIDTH)).astype(np.float16))
    ids = [f"i{item}" for item in range(items)]
    texts = [f"What is like {token}." for token in ids]
    digests = [text_digest(text) for text in texts]
    header = {"encoder": NAME, "dim": WIDTH, "ids": ids, "texts": digests}
    ids_path.write_text(json.dumps(header))
    with open(home / "profiles" / "item.jsonl", "w") as profiles:
        for token, text in zip(ids, texts):
            profiles.write(json.dumps({"id": token, "text": text, **REST}) + "\n")
    with open(home / f"{NAME}.inter", "w") as interactions:
        interactions.write("user_id:token\titem_id:token\n")
        for user in range(items * PER_ITEM // PER_USER):
            for item in rng.choice(items, PER_USER, replace=False).tolist():
                interactions.write(f"u{user}\ti{item}\n")


def measure(folder: str, kind: str) -> dict[str, float]:
    """Train one run, and return the figures of this process."""
    keys = {
        "data_path": folder,
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "load_col": {"inter": ["user_id", "item_id"]},
        "reg_weight": 100.0,
        "eval_batch_size": 100 * 30_000,
        "checkpoint_dir": str(Path(folder, "saved")),
        "kt_enabled": kind != "none",
        "kt_valid_users": 1000,
        "profile_encoder": NAME,
        "show_progress": False,
        "gpu_id": "",
        **({"kt_closed_form": kind} if kind != "none" else {}),
    }
    config = Config("EASE", NAME, config_dict=keys, command_line=[])
    started = time.perf_counter()
    train(config, verbose=False, evaluate_test=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": time.perf_counter() - started, "GB": peak / 1024**2}


def kinds(text: str) -> list[str]:
    """Read names of KINDS with commas between them."""
    names = text.split(",")
    if not {*names} <= {*KINDS}:
        raise ValueError(text)
    return names


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=counts, default="10000,30000")
    parser.add_argument("--kinds", type=kinds, default="drawn", help="none is RecBole's own EASE")
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "KIND"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        print(json.dumps(measure(*options.measure)))
        return
    rows = []
    for items in options.items:
        with tempfile.TemporaryDirectory() as folder:
            write_data(Path(folder), items)
            for kind in options.kinds:
                figures = figures_of(__file__, folder, kind)
                matrix = items**2 * 4 / 1024**3
                rows.append([items, kind, matrix, figures["GB"], figures["seconds"]])
    headers = ["items", "kt_closed_form", "one matrix (GB)", "peak (GB)", "seconds"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=".1f"))


if __name__ == "__main__":
    main()
