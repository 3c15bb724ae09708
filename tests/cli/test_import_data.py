"""The command ``llmkt import``."""

from __future__ import annotations

import shlex

import pytest
from click.testing import CliRunner

from recbole_llmkt.cli.main import main
from tests.datasets.importing.conftest import shop

__all__ = ["shop"]


def run(*arguments):
    return CliRunner().invoke(main, ["import", *arguments])


def test_the_printed_commands_run(shop):
    done = run("orders.csv", "--dataset=mine", "--items=products.csv", "--category=cat:>")
    assert done.exit_code == 0, done.output
    assert "category is 'cat' (--category, split at '>')" in done.output
    commands = [line.strip() for line in done.output.split("Next:")[1].splitlines() if line.strip()]
    assert [command.split()[1] for command in commands] == ["profile", "profile", "train"]
    assert "--config-files=dataset/mine/mine.yaml" in commands[0]
    dry = CliRunner().invoke(main, shlex.split(commands[0])[1:])
    assert dry.exit_code == 0, dry.output
    assert "Grün Rake" in dry.output


def test_without_titles_no_profile_is_suggested(shop):
    done = run("orders.csv", "-d", "mine", "--repeats=keep")
    assert done.exit_code == 0, done.output
    assert "--kt_enabled=False" in done.output and "llmkt profile" not in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.csv", "-d", "mine"], "There is no file 'no.csv'"),
        (["orders.csv", "-d", "mine", "--separator=ab"], "one character"),
        (["orders.csv", "-d", "ml-100k"], "choose another name"),
        (["orders.csv", "-d", "mine", "--category=qty"], "name their table with --items"),
        (["orders.csv", "-d", "mine", "--user=mail"], "Did you mean 'email'"),
        (["orders.csv", "-d", "mine", "--encoding=klingon"], "Cannot read"),
    ],
)
def test_wrong_input_is_exit_code_2_and_writes_nothing(shop, arguments, message):
    done = run(*arguments)
    assert done.exit_code == 2 and message in done.output
    assert not (shop.folder / "dataset").exists()
