import torch
from torch import nn

from recbole_llmkt.utils.processes import (
    average_gradients,
    gathered,
    of_first_process,
    process_count,
    process_means,
    wait_for_all,
)


def test_one_process_keeps_what_it_has():
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, 2.0])
    average_gradients([parameter])
    wait_for_all()
    assert process_count() == 1 and parameter.grad.tolist() == [1.0, 2.0]
    assert of_first_process("a") == "a" and gathered("a") == ["a"]
    assert process_means([1.0, None]) == [1.0, None]


def _exchange(rank, folder):
    torch.distributed.init_process_group("gloo", f"file://{folder}/group", rank=rank, world_size=2)
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    parameters[0].grad = torch.full((2,), float(rank))
    if rank == 1:
        parameters[1].grad = torch.ones(2)
    average_gradients(parameters)
    assert parameters[0].grad.tolist() == [0.5, 0.5]
    assert parameters[1].grad.tolist() == [0.5, 0.5]  # one process had none
    assert parameters[2].grad is None
    assert gathered(rank) == [0, 1] and process_count() == 2
    assert process_means([float(rank), None, 3.0 if rank else None]) == [0.5, None, 3.0]
    (folder / str(rank)).touch()
    wait_for_all()
    torch.distributed.destroy_process_group()


def test_two_processes_exchange(tmp_path):
    torch.multiprocessing.start_processes(_exchange, (tmp_path,), nprocs=2, start_method="fork")
    assert (tmp_path / "0").exists() and (tmp_path / "1").exists()
