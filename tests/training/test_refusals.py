"""Sizes that only a model's first step finds wrong are one line."""

from __future__ import annotations

import pytest
import torch

from recbole_llmkt.quick_start import train
from recbole_llmkt.registry import get_model
from recbole_llmkt.utils.exceptions import ConfigError
from tests.helpers import prepare

MESSAGE = r"^ConvNCF cannot compute with these settings: RuntimeError: .*Check the sizes of its la"


@pytest.fixture
def config(tiny):
    return tiny.config("ConvNCF", embedding_size=4, kt_enabled=False)


def test_sizes_that_fit_no_layer_stop_a_run_before_anything_is_written(config, tmp_path):
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=MESSAGE):
        train(config, verbose=True)
    assert set(tmp_path.rglob("*")) == before


def test_the_first_step_finds_them_where_nothing_is_logged(config):
    with pytest.raises(ConfigError, match=MESSAGE):
        prepare(config).fit()


def test_an_error_in_a_model_of_ones_own_keeps_its_traceback(tiny):
    run = prepare(tiny.config(f"{__name__}.Wrong", kt_enabled=False))
    with pytest.raises(RuntimeError, match="shape"):
        run.fit()


class Wrong(get_model("BPR")):
    """A model with a mistake."""

    def calculate_loss(self, interaction):
        return torch.ones(2, 3) @ torch.ones(2, 3)
