import socket

import pytest
import torch
from torch import nn

from recbole_llmkt.compat import processes
from recbole_llmkt.compat.processes import (
    evaluate_own_part,
    join_processes,
    joined_model,
    trains_on_processors,
)
from recbole_llmkt.utils.exceptions import ConfigError
from tests.helpers import prepare


@pytest.mark.parametrize(
    ("gpu_id", "gpus", "expected"), [("", True, True), ("0,1", True, False), ("0,1", False, True)]
)
def test_processors_are_what_is_left_without_gpus(monkeypatch, gpu_id, gpus, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus)
    assert trains_on_processors({"gpu_id": gpu_id}) is expected


def test_a_port_that_is_taken_is_named():
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        place = {"ip": "localhost", "port": taken.getsockname()[1], "local_rank": 0, "offset": 0}
        with pytest.raises(ConfigError, match=f"localhost:{place['port']}.*--port"):
            join_processes({**place, "world_size": 2})


def test_one_process_evaluates_all_and_normalizes_alone(tiny):
    run = prepare(tiny.config("BPR"))
    before = len(run.valid_data)
    evaluate_own_part(run.valid_data)
    assert len(run.valid_data) == before
    convert = nn.SyncBatchNorm.convert_sync_batchnorm
    with joined_model(torch.device("cpu")):
        assert nn.SyncBatchNorm.convert_sync_batchnorm == convert


def _parts(monkeypatch, loader, count):
    monkeypatch.setattr(processes, "process_count", lambda: count)
    parts = []
    for rank in range(count):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        evaluate_own_part(loader)
        parts.append([int(user) for batch in loader for user in batch[0]["user_id"]])
    return parts


@pytest.mark.parametrize("count", [2, 7, 40])
def test_every_user_is_in_one_part_also_of_more_processes_than_users(tiny, monkeypatch, count):
    loader = prepare(tiny.config("BPR")).valid_data
    users = [int(user) for batch in loader for user in batch[0]["user_id"]]
    parts = _parts(monkeypatch, loader, count)
    assert [user for part in parts for user in part] == users
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def _normalize(rank, folder):
    torch.distributed.init_process_group("gloo", f"file://{folder}/group", rank=rank, world_size=2)
    torch.manual_seed(1)
    rows = torch.randn(6, 3, 4, dtype=torch.float64, requires_grad=True)
    for momentum in (0.1, None):
        whole = nn.BatchNorm1d(3, momentum=momentum, dtype=torch.float64)
        shared = nn.BatchNorm1d(3, momentum=momentum, dtype=torch.float64)
        processes._share_statistics(shared)
        mine = rows[rank * 3 : rank * 3 + 3]
        (expected,) = torch.autograd.grad(whole(rows).pow(3).sum(), rows)
        (gradient,) = torch.autograd.grad(shared(mine).pow(3).sum(), rows)
        own = slice(rank * 3, rank * 3 + 3)
        assert torch.allclose(gradient[own], expected[own])
        for name, values in whole.state_dict().items():
            assert torch.allclose(values, shared.state_dict()[name]), name
        whole.eval(), shared.eval()
        assert torch.allclose(whole(mine), shared(mine))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_batch_normalization_takes_the_rows_of_all_processes(tmp_path):
    """Values, gradients and running statistics are those of one process with all rows."""
    torch.multiprocessing.start_processes(_normalize, (tmp_path,), nprocs=2, start_method="fork")
