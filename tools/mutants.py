"""Print the share of mutants that the tests kill, by module; fail if one is under the target.

Example: python tools/mutants.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tabulate import tabulate

ROOT = Path(__file__).parent.parent
MUTANTS = ROOT / "mutants"
TARGET = 0.85
# What mutmut stores: pytest passed, it found no test, mutmut knew of none.
SURVIVED = {0, 5, 33}
UNDECIDED = {None, 2, 34}  # not run, interrupted, skipped


def rows(folder: Path) -> list[tuple[str, int, int, float]]:
    """Return each module's name, its mutants that were tested, those killed, and their share."""
    table = []
    for path in sorted(folder.rglob("*.py.meta")):
        exits = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"].values()
        tested = [code for code in exits if code not in UNDECIDED]
        killed = sum(code not in SURVIVED for code in tested)
        if tested:
            module = path.relative_to(folder).as_posix()[: -len(".meta")]
            table.append((module, len(tested), killed, killed / len(tested)))
    return table


if __name__ == "__main__":
    table = rows(MUTANTS)
    table_text = tabulate(table, ["module", "mutants", "killed", "share"], floatfmt=".2f")
    sys.stdout.write(f"{table_text}\n")
    sys.exit(not table or any(share < TARGET for *_, share in table))
