"""Run the core suite in given environments, and write what it says into docs/versions.md.

Example: python tools/versions.py .venv/bin/python /elsewhere/bin/python3.13
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "versions.md"
LIBRARIES = ("recbole", "ray", "torch", "numpy", "scipy", "pandas", "transformers")
COLUMNS = ["python", *LIBRARIES, "tests", "seconds", "pip check"]
START, END = "<!-- runs: tools/versions.py -->\n", "<!-- end of runs -->\n"
# What must hold everywhere: stock RecBole bit for bit, repairs, layers, training, comparisons,
# profiles, recommendations.
CORE = (
    "tests/parity",
    "tests/compat",
    "tests/cli",
    "tests/datasets",
    "tests/test_quick_start.py",
    "tests/transfer/inspection",
    "tests/training",
    "tests/experiment/runs",
    "tests/profiles",
    "tests/recommend",
)
ASK = """
import json, platform, sys
from importlib.metadata import PackageNotFoundError, version
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        found[name] = "-"
print(json.dumps(found))
"""


def run_core(python: str) -> dict[str, Any]:
    """Run the core suite with an interpreter.

    Parameters
    ----------
    python : str
        An interpreter of an environment that has this package and its extra ``test``.

    Returns
    -------
    dict
        The versions, the seconds, the suite's last line, and what ``pip check`` says.
    """
    asked = subprocess.run(
        [python, "-c", ASK, *LIBRARIES], capture_output=True, text=True, check=True, cwd=ROOT
    )
    begin = time.monotonic()
    suite = [python, "-m", "pytest", "-q", "-n", "2", "-m", "not slow", *CORE]
    tested = subprocess.run(suite, capture_output=True, text=True, check=False, cwd=ROOT)
    seconds = time.monotonic() - begin
    sys.stderr.write(tested.stdout[-3000:] + tested.stderr[-3000:])
    checked = subprocess.run(
        [python, "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    lines = tested.stdout.strip().splitlines() or ["no output"]
    return {
        **json.loads(asked.stdout),
        "seconds": round(seconds),
        "tests": re.sub(r" in [\d.]+s.*|, \d+ warnings?|=+ ?", "", lines[-1]).strip(),
        "pip check": "; ".join(checked.stdout.strip().splitlines()) or "-",
        "failed": tested.returncode != 0,
    }


def table(rows: dict[str, list[str]]) -> str:
    """Set rows, by the version of Python, as a Markdown table."""
    ordered = sorted(rows.values(), key=lambda row: [int(part) for part in row[0].split(".")])
    return "".join(
        f"| {' | '.join(row)} |\n" for row in (COLUMNS, ["---"] * len(COLUMNS), *ordered)
    )


def read_table(text: str) -> dict[str, list[str]]:
    """Return the rows of a table that `table` made."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row for row in lines[2:]}


@click.command()
@click.argument("pythons", nargs=-1, required=True)
@click.option("--write/--no-write", default=True, help="Put the table into docs/versions.md.")
def main(pythons: tuple[str, ...], write: bool) -> None:
    """Run the core suite with each of PYTHONS, and put its row into the table of the runs."""
    failed = False
    for python in pythons:
        run = run_core(python)
        failed = failed or run["failed"]
        row = {run["python"]: [str(run[name]) for name in COLUMNS]}
        click.echo(table(row))
        if write:
            before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
            made, _, after = rest.partition(END)
            rows = table({**read_table(made), **row})
            PAGE.write_text(f"{before}{START}\n{rows}\n{END}{after}", encoding="utf-8")
    sys.exit(failed)


if __name__ == "__main__":
    main()
