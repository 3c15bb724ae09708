"""What only a model's first step finds out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from recbole_llmkt.utils.exceptions import ConfigError, recbole_refusals


@contextmanager
def model_refusals(model: nn.Module, applies: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Say in one line why a model of RecBole's cannot compute anything within the block.

    Sizes that fit no layer show only there. An error in a model of your own passes unchanged.

    Parameters
    ----------
    model : nn.Module
        The run's model.
    applies : callable
        Asked when there is an error: whether it is the model's first step.

    Raises
    ------
    ConfigError
        With the reason.
    """
    name = type(model).__name__

    def describe(reason: str) -> ConfigError:
        return ConfigError(
            f"{name} cannot compute with these settings: {reason}. Check the sizes of its layers, "
            f"and what else RecBole's properties/model/{name}.yaml sets."
        )

    try:
        yield
    except Exception as error:
        if not type(model).__module__.startswith("recbole.") or not applies():
            raise
        with recbole_refusals(describe):
            raise error
