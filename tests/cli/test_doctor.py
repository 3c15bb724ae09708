"""``llmkt doctor``: what works here, and an exit code that says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from recbole_llmkt.cli import doctor
from recbole_llmkt.cli.main import main
from recbole_llmkt.utils.exceptions import ConfigError


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(doctor, "_ENCODERS", ("wordllama", "openai:m"))


def test_what_works_and_what_does_not(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setitem(doctor._EXTRAS, "no_such_library", ("nothing", "nothing"))
    done = CliRunner().invoke(main, ["doctor"])
    lines = done.output.splitlines()
    assert done.exit_code == 0, done.output
    assert "ok    encoder   wordllama, 256 numbers a profile" in lines
    assert "ok    training  BPR trains and is evaluated" in lines
    assert any(line.startswith("off   encoder   openai:m: ") for line in lines)
    assert "off   extras    without nothing (pip install 'recbole_llmkt[nothing]')" in lines
    (network,) = [line for line in lines if "127.0.0.1:9 does not answer" in line]
    assert "<" not in network  # the reason, not the exception's name
    assert not list(Path().iterdir())


def test_each_line_is_printed_before_the_next_look(monkeypatch):
    printed = []
    monkeypatch.setattr(doctor, "echo", printed.append)

    def train():
        assert any("wordllama" in line for line in printed)
        return [doctor.Check("ok", "training", "after the others")]

    monkeypatch.setattr(doctor, "_training", train)
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 0 and "after the others" in printed[-1]


def test_a_recbole_that_cannot_be_used_is_a_failure(monkeypatch):
    def refuse():
        raise ConfigError("recbole 1.1 is not supported: install 1.2.")

    monkeypatch.setattr("recbole_llmkt.compat.check_release", refuse)
    monkeypatch.setattr(doctor, "_training", lambda: 1 / 0)
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 1
    assert "FAIL  recbole   recbole 1.1 is not supported: install 1.2." in done.output
    assert "ZeroDivisionError: division by zero" in done.output
