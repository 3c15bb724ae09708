"""Checkpoints on disk: tensors and plain Python values only, written whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recbole_llmkt.compat import forget_computed, load_plain
from recbole_llmkt.exceptions import DataError

_CLUSTERS = ("user_centroids", "user_2cluster", "item_centroids", "item_2cluster")


def save_file(state: dict[str, Any], path: str) -> None:
    """Write a checkpoint in one piece: a reader sees the old file or the new one."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    partial = f"{path}.{uuid.uuid4().hex[:8]}.partial"  # of several writers, the last one counts
    try:
        torch.save(state, partial)
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)


def load_checkpoint(path: str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint of this package; nothing in the file is executed.

    Raises
    ------
    DataError
        The file is missing, broken, or holds anything but tensors and plain values.
    """
    try:
        state = load_plain(path, device)
    except DataError as error:
        raise DataError(
            f"Cannot read the checkpoint '{path}': it is not a file that recbole_llmkt saved, or "
            "it holds more than tensors and plain values. Name a checkpoint of this package."
        ) from error
    except Exception as error:  # torch raises many kinds, all of them meaning: not readable
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        if isinstance(error, KeyError) or not reason:
            reason = "it is no file of torch"
        raise DataError(
            f"Cannot read the checkpoint '{path}': {reason}. It must be a file that recbole_llmkt "
            "saved."
        ) from error
    if not isinstance(state, dict) or not {"config", "state_dict", "transfer"} <= set(state):
        raise DataError(f"'{path}' is not a checkpoint of recbole_llmkt.")
    return state


def load_weights(model: nn.Module, checkpoint: dict[str, Any], path: str) -> None:
    """Put a checkpoint's weights and counters into a model.

    Raises
    ------
    DataError
        They do not fit the model.
    """
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip().rstrip(".")
        raise DataError(
            f"'{path}' does not fit this {type(model).__name__}: {reason}. The model's sizes and "
            "the dataset must be those it was trained with."
        ) from error
    device = next(model.parameters()).device
    other = _moved(checkpoint["other_parameter"], device)
    model.load_other_parameter(other)  # type: ignore[operator]
    forget_computed(model)
    if hasattr(model, "update_attentive_A"):
        # KGAT keeps its attention matrix nowhere; it follows from the embeddings after each epoch.
        with torch.no_grad():
            model.update_attentive_A()  # type: ignore[operator]
    vars(model).update(_moved(checkpoint["transfer"].get("clusters", {}), device))
    modules = dict(model.named_modules())
    for name, values in checkpoint["transfer"]["counters"].items():
        modules[name].__dict__.update(values)


def _moved(values: Any, device: torch.device) -> Any:
    """Copy tensors, also those in dicts and lists, to a device."""
    if isinstance(values, torch.Tensor):
        return values.to(device)
    if isinstance(values, dict):
        return {key: _moved(value, device) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return type(values)(_moved(value, device) for value in values)
    return values


Counters = dict[str, "dict[str, int | float]"]


def counters(model: nn.Module, start: Counters | None = None) -> Counters:
    """Return the plain numbers that a model's modules hold beside their tensors, by module.

    Some models count their steps in them (MultiVAE's annealing), and ``state_dict`` leaves them
    out.

    Parameters
    ----------
    model : nn.Module
        The model.
    start : dict, optional
        What this returned before training: only what has moved since is a counter, the rest are
        settings (dropout rates, say), which belong to the configuration.
    """
    found = {}
    for name, module in model.named_modules():
        before = (start or {}).get(name, {})
        numbers = {
            key: one
            for key, one in vars(module).items()
            if type(one) in (int, float) and (key not in before or before[key] != one)
        }
        if numbers:
            found[name] = numbers
    return found


def clusters(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return NCL's clusters, which it makes anew every ``m_step`` epochs only."""
    found = {name: vars(model).get(name) for name in _CLUSTERS}
    return {name: one for name, one in found.items() if isinstance(one, torch.Tensor)}
