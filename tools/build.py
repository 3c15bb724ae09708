"""Build sdist and wheel of this checkout into a folder.

Example: python tools/build.py dist
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from setuptools import build_meta

ROOT = Path(__file__).resolve().parent.parent


def build(folder: Path) -> list[Path]:
    """Return the sdist and the wheel."""
    folder = folder.resolve()  # before the change of folder; setuptools changes sys.argv, too
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)
    shutil.rmtree("build", ignore_errors=True)  # modules of earlier versions would be packed
    makers = (build_meta.build_sdist, build_meta.build_wheel)
    return [folder / make(str(folder)) for make in makers]


if __name__ == "__main__":
    build(Path(sys.argv[1]))
