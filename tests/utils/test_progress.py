"""Progress bars: of libraries late, in notebooks as widgets."""

from __future__ import annotations

import importlib

import pytest
from transformers.utils import logging

from recbole_llmkt.compat import recbole as repairs
from recbole_llmkt.compat import recbole_bars
from recbole_llmkt.utils.progress import Widget, late_bars

needs_hook = pytest.mark.skipif(
    not hasattr(logging, "set_tqdm_hook"), reason="transformers before 5.4 draws at once"
)


@needs_hook
def test_a_bar_waits_two_seconds(capsys, monkeypatch):
    monkeypatch.setattr(logging, "_tqdm_active", True)
    with late_bars():
        assert list(logging.tqdm(range(3), desc="Loading")) == [0, 1, 2]
        assert logging.tqdm(range(3)).delay == 2
    assert capsys.readouterr().err == ""
    list(logging.tqdm(range(3), desc="Loading"))
    assert "Loading" in capsys.readouterr().err


@needs_hook
def test_the_hook_that_was_there_comes_back_also_after_an_error():
    def own(bar, arguments, keywords):
        return bar(*arguments, **keywords)

    before = logging.set_tqdm_hook(own)
    try:
        with pytest.raises(OSError, match="no file"), late_bars():
            raise OSError("no file")
        assert logging.set_tqdm_hook(before) is own
    finally:
        logging.set_tqdm_hook(before)


def test_a_release_without_the_hook_draws_as_it_does(monkeypatch):
    monkeypatch.delattr(logging, "set_tqdm_hook", raising=False)
    with late_bars():
        assert list(logging.tqdm(range(3))) == [0, 1, 2]


def test_a_widget_is_as_wide_as_there_is_space_and_has_no_colours(capsys):
    form = "{desc}|{bar:20}|{postfix}"
    with Widget(range(3), desc="\x1b[1;35mTrain 0\x1b[0m", ncols=100, bar_format=form) as bar:
        assert (bar.desc, bar.ncols) == ("Train 0", None)
        assert bar.bar_format == "{desc}|{bar}|{postfix}"
        bar.set_postfix_str("\x1b[1;33mloss 1\x1b[0m")
        assert bar.postfix == "loss 1"
        assert list(bar) == [0, 1, 2]
    assert not bar.leave


@pytest.mark.parametrize("widgets", [False, True])
def test_recboles_bars_are_ours_in_notebooks_alone(widgets, monkeypatch):
    monkeypatch.setattr(repairs, "WIDGETS", widgets)
    monkeypatch.setattr(repairs, "tqdm", Widget)
    trainer = importlib.import_module("recbole.trainer.trainer")
    before = trainer.tqdm
    with recbole_bars():
        assert trainer.tqdm is (Widget if widgets else before)
    assert trainer.tqdm is before
