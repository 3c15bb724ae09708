"""Models that read a table by lookups, and in other ways."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recbole_llmkt.transfer.inspection.lookups import LookupExperiment
from tests.helpers import prepare


@pytest.fixture
def bpr(tiny):
    run = prepare(tiny.config("BPR", kt_enabled=False))
    return run.model, run.train_data


def test_a_pairwise_model_looks_its_tables_up(bpr):
    model, train_data = bpr
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    experiment = LookupExperiment(model, train_data)
    assert experiment.modules_of("item_embedding.weight") == [model.item_embedding]
    assert experiment.modules_of("user_embedding.weight") == [model.user_embedding]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["LightGCN", "FISM"])
def test_a_model_that_reads_the_whole_table_is_found_out(tiny, name):
    run = prepare(tiny.config(name, kt_enabled=False))
    experiment = LookupExperiment(run.model, run.train_data)
    tables = [key for key, _ in run.model.named_parameters() if key.endswith("embedding.weight")]
    assert tables and not any(experiment.modules_of(table) for table in tables)


def test_a_shared_or_special_table_is_left_alone(tiny):
    run = prepare(tiny.config("BPR", kt_enabled=False))
    run.model.twin = nn.Linear(64, run.model.n_items)
    run.model.twin.weight = run.model.item_embedding.weight
    run.model.user_embedding.max_norm = 1.0
    experiment = LookupExperiment(run.model, run.train_data)
    assert experiment.modules_of("item_embedding.weight") == []
    assert experiment.modules_of("user_embedding.weight") == []
