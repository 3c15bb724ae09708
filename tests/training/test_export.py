"""Which checkpoints cannot become stock ones; those that can are loaded by stock RecBole."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_llmkt.checkpoints import save_file
from recbole_llmkt.datasets.vocabulary import Vocabulary
from recbole_llmkt.training import export
from recbole_llmkt.training.export import export_stock_checkpoint
from recbole_llmkt.utils.exceptions import ConfigError, DataError
from tests.helpers import prepare


def test_a_checkpoint_without_ids_is_refused_and_nothing_is_written(make_dataset):
    config = make_dataset(n_users=6, n_items=12, per_user=(5, 8)).config(kt_enabled=False)
    state = {"config": config.plain(), "state_dict": {}, "transfer": {}}
    save_file(state, "mine.pth")
    with pytest.raises(DataError, match=r"'mine\.pth' does not say which row belongs"):
        export_stock_checkpoint("mine.pth", "stock.pth")
    assert not Path("stock.pth").exists()


def test_another_architecture_is_refused_with_the_fix(make_dataset, monkeypatch):
    class Other:
        name = "kar"
        changes_architecture = True

    dataset = make_dataset(n_users=6, n_items=12, per_user=(5, 8))
    run = prepare(dataset.config(kt_enabled=False))
    ids = Vocabulary.of(run.dataset).pack()
    save_file(
        {"config": run.config.plain(), "state_dict": {}, "transfer": {"ids": ids}}, "mine.pth"
    )
    monkeypatch.setattr(export, "wanted_methods", lambda config: [Other])
    with pytest.raises(
        ConfigError, match=r"holds a BPR with kt_method: kar, .*load_data_and_model"
    ):
        export_stock_checkpoint("mine.pth", "stock.pth")
    assert not Path("stock.pth").exists()
