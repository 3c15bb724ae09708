"""Seconds and memory of ``llmkt export`` on 100,000 users and 50,000 items (random, BPR).

python benchmarks/export.py [N_USERS N_ITEMS]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WIDTH, PER_USER, TOPK = 64, 12, 10


def write_interactions(folder: Path, n_users: int, n_items: int) -> None:
    """Write random interactions in which every user and every item occurs."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(n_users), PER_USER)
    items = rng.integers(n_items, size=len(users))
    items[rng.permutation(len(users))[:n_items]] = np.arange(n_items)
    lines = [f"u{user}\ti{item}" for user, item in zip(users.tolist(), items.tolist())]
    folder.mkdir(parents=True)
    text = "user_id:token\titem_id:token\n" + "\n".join(lines) + "\n"
    (folder / "shop.inter").write_text(text)


def train() -> str:
    """Train one epoch; return the checkpoint."""
    keys = {
        "data_path": "data",
        "load_col": "{inter: [user_id, item_id]}",
        "embedding_size": WIDTH,
        "epochs": 1,
        "train_batch_size": 65536,
        "eval_step": 0,
        "kt_enabled": False,
        "eval_args": "{split: {RS: [0.8, 0.1, 0.1]}, order: RO, group_by: user, mode: full}",
        "show_progress": False,
    }
    given = [f"--{key}={value}" for key, value in keys.items()]
    code = (
        "import sys; from recbole_llmkt.cli.overrides import parse_overrides; "
        "from recbole_llmkt.config import Config; from recbole_llmkt.quick_start import train; "
        "keys = parse_overrides(sys.argv[1:]); sys.argv = sys.argv[:1]; "
        "config = Config('BPR', 'shop', config_dict=keys, command_line=[]); "
        "train(config, verbose=False, evaluate_test=False)"
    )
    subprocess.run([sys.executable, "-c", code, *given], check=True)
    (checkpoint,) = Path("saved").glob("BPR-*.pth")
    return str(checkpoint)


def measure(*arguments: str) -> tuple[float, float, float]:
    """Run a command; return its seconds, those of the processors, and its largest memory in GB."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", _MAIN, *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{arguments} failed")
    busy = usage.ru_utime + usage.ru_stime
    return time.perf_counter() - started, busy, usage.ru_maxrss * 1024 / 1e9


_MAIN = "from recbole_llmkt.cli.main import main; main()"


if __name__ == "__main__":
    n_users, n_items = map(int, sys.argv[1:] or (100_000, 50_000))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # RecBole writes its logs into the current folder
        write_interactions(Path("data/shop"), n_users, n_items)
        checkpoint = train()
        print(f"{n_users:,} users, {n_items:,} items, {os.cpu_count()} cores")
        for output in (("--output=vectors",), ("--output=top.parquet", f"--topk={TOPK}")):
            seconds, busy, memory = measure("export", f"--checkpoint={checkpoint}", *output)
            print(
                f"llmkt export {' '.join(output)}: {seconds:.0f} s ({busy:.0f} s of processor "
                f"time), {memory:.2f} GB"
            )
        os.chdir("/")
