"""Everything that commands print goes through one function."""

from __future__ import annotations

from pathlib import Path

import recbole_llmkt.cli as commands
from recbole_llmkt.utils.terminal import echo


def test_lines_stay_and_escapes_do_not(capsys):
    echo("\x1b[31mred\x1b[0m\nnext\u202e")
    echo(Path("a\x9b1m"), err=True)
    assert capsys.readouterr() == ("red\nnext\n", "a\n")


def test_commands_print_in_no_other_way():
    for path in Path(commands.__file__).parent.glob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert "click.echo(" not in source, path
        assert "print(" not in source.replace("pprint(", ""), path
