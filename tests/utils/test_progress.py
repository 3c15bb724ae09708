"""A library's progress bars appear where something takes long, and nowhere else."""

from __future__ import annotations

import pytest
from transformers.utils import logging

from recbole_llmkt.utils.progress import late_bars

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
