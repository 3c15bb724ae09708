"""Run a script of stock RecBole's: ``python -m recbole_llmkt.stock run_recbole.py --model=BPR``."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path


def main() -> None:
    """Run a script, with its arguments, inside :func:`~recbole_llmkt.compat.stock_recbole`."""
    arguments = sys.argv[1:]
    if not arguments or not Path(arguments[0]).is_file():
        named = f"there is no file '{arguments[0]}'" if arguments else "no script is named"
        sys.exit(
            f"Cannot run stock RecBole: {named}. Write: python -m recbole_llmkt.stock "
            "run_recbole.py --model=BPR --dataset=ml-100k"
        )
    from recbole_llmkt.compat import stock_recbole  # seconds: not before the script is there

    sys.argv = arguments
    sys.path[0] = str(Path(arguments[0]).resolve().parent)
    with stock_recbole():
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
