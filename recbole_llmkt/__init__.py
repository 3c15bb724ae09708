"""Knowledge transfer from language models into any RecBole model (LLM-KT, arXiv 2411.00556)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recbole_llmkt.config import Config
    from recbole_llmkt.experiment.report.notebook import plot, results
    from recbole_llmkt.profiles.encoders.base import Encoder
    from recbole_llmkt.profiles.generation.generators.base import Answer, Generator
    from recbole_llmkt.quick_start import (
        load_data_and_model,
        objective_function,
        run_recbole_llmkt,
    )
    from recbole_llmkt.training.export import export_stock_checkpoint
    from recbole_llmkt.transfer.losses import TransferLoss
    from recbole_llmkt.transfer.methods.base import Method

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "Config",
    "Encoder",
    "Generator",
    "Method",
    "TransferLoss",
    "__version__",
    "export_stock_checkpoint",
    "load_data_and_model",
    "objective_function",
    "plot",
    "results",
    "run_recbole_llmkt",
]

_MODULES = {
    "Answer": "profiles.generation.generators.base",
    "Config": "config",
    "Encoder": "profiles.encoders.base",
    "Generator": "profiles.generation.generators.base",
    "Method": "transfer.methods.base",
    "TransferLoss": "transfer.losses",
    "export_stock_checkpoint": "training.export",
    "load_data_and_model": "quick_start",
    "objective_function": "quick_start",
    "plot": "experiment.report.notebook",
    "results": "experiment.report.notebook",
    "run_recbole_llmkt": "quick_start",
}


def __getattr__(name: str) -> object:
    """Import the public names when they are first used: ``llmkt --help`` needs no torch."""
    if name not in _MODULES:
        raise AttributeError(f"module 'recbole_llmkt' has no attribute '{name}'")
    value: object = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value
