"""Knowledge transfer from language models into any RecBole model (LLM-KT, arXiv 2411.00556)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recbole_llmkt.config import Config
    from recbole_llmkt.quick_start import (
        load_data_and_model,
        objective_function,
        run_recbole_llmkt,
    )
    from recbole_llmkt.training.export import export_stock_checkpoint

__version__ = "0.1.0"
__all__ = [
    "Config",
    "__version__",
    "export_stock_checkpoint",
    "load_data_and_model",
    "objective_function",
    "run_recbole_llmkt",
]


def __getattr__(name: str) -> object:
    """Import the public names when they are first used: ``llmkt --help`` needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module 'recbole_llmkt' has no attribute '{name}'")
    from recbole_llmkt import config, quick_start
    from recbole_llmkt.training import export

    modules = {"Config": config, "export_stock_checkpoint": export}
    value: object = getattr(modules.get(name, quick_start), name)
    return value
