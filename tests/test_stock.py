"""A script of stock RecBole's, run with its own arguments."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from recbole_llmkt import stock

SCRIPT = """
import json, sys
from beside import VALUE
if __name__ == "__main__":
    json.dump([sys.argv, VALUE], open("seen.json", "w"))
"""


def test_a_script_sees_its_arguments_and_the_modules_beside_it(tmp_path, monkeypatch):
    folder = tmp_path / "scripts"
    folder.mkdir()
    script = folder / "run_it.py"
    script.write_text(SCRIPT)
    (folder / "beside.py").write_text("VALUE = 7")
    monkeypatch.setattr(sys, "argv", ["stock", str(script), "--model=BPR"])
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    stock.main()
    assert json.loads(Path("seen.json").read_text()) == [[str(script), "--model=BPR"], 7]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [([], "no script is named"), (["missing.py"], "there is no file 'missing.py'"), (["."], "'.'")],
)
def test_what_is_no_script_is_one_line_with_an_example(monkeypatch, arguments, reason):
    monkeypatch.setattr(sys, "argv", ["stock", *arguments])
    with pytest.raises(SystemExit) as ended:
        stock.main()
    message = str(ended.value)
    assert message.startswith("Cannot run stock RecBole: ")
    assert reason in message
    assert "python -m recbole_llmkt.stock run_recbole.py" in message
    assert "\n" not in message
