"""The commands of pages that are read from top to bottom work in their order, as they stand."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from recbole_llmkt.cli.main import main

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(bash|yaml|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"\s+# .*$", re.MULTILINE)
_ASSIGNMENT = re.compile(r"(\w+)=(\$\(.*\))")
# Installing is CI's first step; what a report of the machine says depends on the machine.
_ELSEWHERE = (["pip", "install"], ["llmkt", "doctor"])


def steps(page: str) -> Iterator[tuple[str, str]]:
    """Yield the commands of a page, and the files that it shows under their names."""
    for language, text in _BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8")):
        if language != "bash":
            yield "file", text
        else:
            lines = _COMMENT.sub("", text.replace("\\\n", "")).splitlines()
            yield from (("command", line) for line in lines if line.strip())


def expand(line: str) -> str:
    """Fill in what a shell would, and the checkpoint where a page shortens its name."""
    newest = sorted(Path("saved").glob("BPR-*.pth"), key=lambda path: path.stat().st_mtime)
    if newest:
        line = line.replace("saved/BPR-....pth", str(newest[-1]))
    script = f"printf '%s' {line}" if line.startswith("$(") else f'printf "%s" "{line}"'
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a line of a page; return what it prints."""
    assignment = _ASSIGNMENT.fullmatch(line)
    if assignment:
        monkeypatch.setenv(assignment[1], expand(assignment[2]))
        return ""
    program, *arguments = shlex.split(expand(line))
    if [program, *arguments[:1]] in _ELSEWHERE:
        return ""
    if program == "python":
        command = [sys.executable, str(ROOT / arguments[0]), *arguments[1:]]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert program == "llmkt", line
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, f"{line}\n{done.output}"
    return done.output


def run_page(page: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Run a page; return the outputs of each command."""
    outputs: dict[str, list[str]] = {}
    for kind, text in steps(page):
        if kind == "file":
            Path(re.match(r"# (\S+)", text)[1]).write_text(text, encoding="utf-8")
        else:
            outputs.setdefault(text, []).append(run(text, monkeypatch))
    return outputs


def test_the_shop_and_the_same_shop_a_week_later(monkeypatch):
    outputs = run_page("shop.md", monkeypatch)
    recommended = next(texts for line, texts in outputs.items() if "users=c1@" in line)
    before, after = (re.findall(r"\[.*\d", text) for text in recommended)
    assert before == after and len(before) == 6  # three each, with their scores
    assert {"top10.csv", "vectors", "served"} <= set(os.listdir())


@pytest.mark.slow
def test_the_tutorial(monkeypatch):
    outputs = run_page("tutorial.md", monkeypatch)
    assert sum(line.startswith("llmkt") for line in outputs) == 5
    assert Path("out/report.html").exists() and Path("out2/report.html").exists()


@pytest.mark.slow
def test_classes_of_your_own(monkeypatch):
    monkeypatch.syspath_prepend(os.getcwd())
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("cache").resolve()))
    outputs = run_page("extending.md", monkeypatch)
    (shown,) = (texts[0] for line, texts in outputs.items() if " show " in line)
    assert "Favourites: " in shown
    (layers,) = (texts[0] for line, texts in outputs.items() if line.startswith("llmkt layers"))
    assert re.search(r"users\s", layers), layers
    records = Path("nudged/results.jsonl").read_text()
    assert "nudge of user_embedding" in records and records.count('"status": "ok"') == 2
