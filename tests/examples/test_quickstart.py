"""The notebook runs from top to bottom; its installation is this environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"
MAX_SECONDS = 60.0  # for each cell, on two cores


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    installs = [cell for cell in notebook.cells if "install" in cell.metadata.get("tags", [])]
    assert [cell.source for cell in installs] == ["%pip install --quiet recbole_llmkt"]
    notebook.cells = [cell for cell in notebook.cells if cell not in installs]
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    client = nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()

    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(_seconds(cell) < MAX_SECONDS for cell in cells), [*map(_seconds, cells)]
    outputs = [output for cell in cells for output in cell.outputs]
    plots = [shown for shown in outputs if "image/png" in shown.get("data", {})]
    assert len(plots) == 2
    printed = "".join(shown.get("text", "") for shown in outputs)
    assert "shuffled" in printed and "Traceback" not in printed and "Error" not in printed
    assert (tmp_path / "out" / "report.html").is_file()


def _seconds(cell: Any) -> float:
    import dateutil.parser

    times = cell.metadata["execution"]
    begin, end = (
        dateutil.parser.isoparse(times[name])
        for name in ("iopub.execute_input", "shell.execute_reply")
    )
    return float((end - begin).total_seconds())
