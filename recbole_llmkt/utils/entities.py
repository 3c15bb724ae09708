"""The kinds of entities that profiles describe."""

from __future__ import annotations

ENTITIES = ("user", "item")
