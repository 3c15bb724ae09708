"""Recommendations by a trained model, and the profile sentences that fit them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_llmkt.recommend.recommender import Recommender

__all__ = ["Recommender"]


def __getattr__(name: str) -> Any:
    """Import the public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'recbole_llmkt.recommend' has no attribute '{name}'")
    from recbole_llmkt.recommend import recommender

    return getattr(recommender, name)
