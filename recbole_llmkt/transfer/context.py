"""What the methods of one run share: its profiles and what was found out about its model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import nn

from recbole_llmkt.profiles.loading import RunProfiles
from recbole_llmkt.transfer.inspection.catalog import Place, catalog
from recbole_llmkt.transfer.inspection.tables import (
    EntityTable,
    TableFinder,
    find_tables,
    wide_tables,
)
from recbole_llmkt.utils.entities import ENTITIES
from recbole_llmkt.utils.types import Loader, RunConfig


@dataclass
class RunContext:
    """One training run, as the methods see it. Each thing in it is read or found out once.

    Attributes
    ----------
    config : RunConfig
        The run's configuration.
    model : nn.Module
        The model.
    train_data : Loader
        RecBole's loader of the training split.
    profiles : RunProfiles
        Profiles and their embeddings, by entity.
    epochs : int
        Epochs of this fit.
    eval_step : int
        Epochs between two validations; 0 where there are none.
    resumed : bool
        Whether the model has weights of a checkpoint already.
    pretraining : bool
        Whether this is an earlier stage of a model that is trained in several (RaCT, S3Rec).
    """

    config: RunConfig
    model: nn.Module
    train_data: Loader
    profiles: RunProfiles = field(default=None)  # type: ignore[assignment]
    epochs: int = 0
    eval_step: int = 0
    resumed: bool = False
    pretraining: bool = False

    def __post_init__(self) -> None:
        if self.profiles is None:
            self.profiles = RunProfiles(self.config, self.train_data._dataset)

    @cached_property
    def places(self) -> list[Place]:
        """All places of the model that can be tapped."""
        return catalog(self.model, self.train_data)

    @cached_property
    def _finder(self) -> TableFinder:
        return TableFinder(self.model, self.train_data)

    def tables(self, entities: Iterable[str]) -> dict[str, list[EntityTable]]:
        """Return the tables of users or items that ``kt_init_tables`` names, by entity.

        Parameters and errors are those of
        :func:`~recbole_llmkt.transfer.inspection.tables.find_tables`.
        """
        return find_tables(self._finder, entities, self.config["kt_init_tables"])

    def written_tables(self, min_width: int = 1) -> dict[str, list[EntityTable]]:
        """Return the tables that the run is to write: those of ``kt_entity``.

        Parameters
        ----------
        min_width : int
            Narrower tables are left out.

        Raises
        ------
        LayerError
            There is no table at all, or whose it is cannot be told.
        """
        entities = entities_of(self.config["kt_entity"])
        return wide_tables(self.model, self.tables(entities), min_width)


def entities_of(setting: str | Sequence[str]) -> list[str]:
    """Return whose profiles a value of ``kt_entity`` means: ``user``, ``item`` or both."""
    if setting == "both":
        return list(ENTITIES)
    return [setting] if isinstance(setting, str) else list(dict.fromkeys(setting))
