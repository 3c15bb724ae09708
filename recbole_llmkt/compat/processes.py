"""RecBole's training with several processes: on CPUs too, and with the metrics of all users.

No upstream issue is known of the faults named here.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, cast
from unittest.mock import patch

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel

from recbole_llmkt.compat.replacing import replaced
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.processes import process_count
from recbole_llmkt.utils.types import Loader, Settings


def trains_on_processors(settings: Settings) -> bool:
    """Tell whether processes train without GPUs: ``gpu_id`` is empty, or there is none."""
    return not str(settings["gpu_id"]).strip("() ,") or not torch.cuda.is_available()


def join_processes(settings: Settings) -> None:
    """Join the processes that train together on CPUs.

    ``Config._init_device`` in ``recbole/config/configurator.py`` knows GPUs and NCCL alone.

    Parameters
    ----------
    settings : dict
        The values of the configuration with ``local_rank``, ``offset``, ``world_size``, ``ip`` and
        ``port``; changed as RecBole's function does.

    Raises
    ------
    ConfigError
        The first process cannot be reached, or its port is taken.
    """
    address = f"{settings['ip']}:{settings['port']}"
    try:
        distributed.init_process_group(
            backend="gloo",
            rank=settings["local_rank"] + settings["offset"],
            world_size=settings["world_size"],
            init_method=f"tcp://{address}",
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(
            f"The processes cannot meet at {address}: {reason}. Give the address of the first "
            "machine as --ip, and a port of it that is free as --port."
        ) from error
    settings["device"] = torch.device("cpu")
    settings["single_spec"] = False
    if settings["local_rank"] != 0:
        settings.update(state="error", show_progress=False, verbose=False)


@contextmanager
def joined_model(device: torch.device) -> Iterator[None]:
    """Let the block make RecBole's trainer of one of several processes on any device.

    ``AbstractTrainer.__init__`` in ``recbole/trainer/trainer.py`` names a GPU to PyTorch's
    DistributedDataParallel, and PyTorch's SyncBatchNorm runs on GPUs alone.
    """
    if device.type != "cpu" or process_count() == 1:
        yield
        return
    trainer = importlib.import_module("recbole.trainer.trainer")

    def on_processor(model: nn.Module, device_ids: list[int]) -> DistributedDataParallel:
        return DistributedDataParallel(model)

    shared = patch.object(nn.SyncBatchNorm, "convert_sync_batchnorm", _share_statistics)
    with replaced(trainer, "DistributedDataParallel", on_processor), shared:
        yield


def _share_statistics(model: nn.Module) -> nn.Module:
    """Let batch normalization take mean and variance over the batches of all processes."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.forward = functools.partial(_normalize, module)  # type: ignore[method-assign]
    return model


def _normalize(module: nn.modules.batchnorm._BatchNorm, rows: Tensor) -> Tensor:
    if not module.training:
        return type(module).forward(module, rows)
    axes, width = [axis for axis in range(rows.dim()) if axis != 1], rows.shape[1]
    shape = [1, width, *(1 for _ in axes[1:])]
    count = rows.new_tensor([rows.numel() / width])
    sums, counts = all_reduce(torch.cat([rows.sum(axes), count])).split([width, 1])
    mean = sums / counts
    centred: Tensor = rows - mean.view(shape)
    variance = all_reduce(centred.square().sum(axes)) / counts
    _track(module, mean.detach(), variance.detach() * counts.detach() / (counts.detach() - 1))
    normal: Tensor = centred / (variance + module.eps).sqrt().view(shape)
    if module.affine:
        normal = normal * module.weight.view(shape) + module.bias.view(shape)
    return normal


def _track(
    module: nn.modules.batchnorm._BatchNorm, mean: Tensor, unbiased_variance: Tensor
) -> None:
    if module.running_mean is None or module.running_var is None:
        return
    assert module.num_batches_tracked is not None
    module.num_batches_tracked.add_(1)
    share = module.momentum or 1 / float(module.num_batches_tracked)
    module.running_mean.lerp_(mean, share)
    module.running_var.lerp_(unbiased_variance, share)


class _Batches(Protocol):
    sampler: object


class _SplitLoader(Protocol):
    batch_sampler: _Batches


def evaluate_own_part(loader: Loader) -> None:
    """Let each of several processes evaluate a part of the rows: every row once, in their order.

    ``AbstractDataLoader.__init__`` in ``recbole/data/dataloader/abstract_dataloader.py`` fills the
    parts up to equal lengths with rows of the beginning, which then count twice.
    """
    count = process_count()
    if count > 1:
        first, last = (
            loader.sample_size * place // count
            for place in (distributed.get_rank(), distributed.get_rank() + 1)
        )
        cast(_SplitLoader, loader).batch_sampler.sampler = range(first, last)
