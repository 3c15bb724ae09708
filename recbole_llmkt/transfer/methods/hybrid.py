"""Train embedding tables as hybrids of their own rows and what the profiles say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from logging import getLogger
from typing import ClassVar

import torch
from torch import Tensor, nn

from recbole_llmkt.profiles.loading import ProfileVectors
from recbole_llmkt.transfer.auxiliary.settings import term_settings
from recbole_llmkt.transfer.context import RunContext
from recbole_llmkt.transfer.inspection.lookups import LookupExperiment
from recbole_llmkt.transfer.inspection.tables import EntityTable
from recbole_llmkt.transfer.methods.base import Method
from recbole_llmkt.transfer.methods.folded import FoldedParameter, Part, join_optimizers
from recbole_llmkt.transfer.methods.linear_map import LinearMap, map_rate, profile_features
from recbole_llmkt.transfer.methods.neighbours import (
    NeighbourMean,
    Neighbours,
    nearest_neighbours,
)
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.processes import process_count
from recbole_llmkt.utils.types import RunConfig, Settings, State

logger = getLogger(__name__)

# What decides which knowledge each kind brings in.
_KEYS = {
    "linear": ("kt_hybrid_scale", "kt_hybrid_width"),
    "neighbours": ("kt_neighbours", "kt_hybrid_scale"),
}
_IN_WORDS = {
    "linear": "its own rows plus a map of the profiles",
    "neighbours": "its own rows plus a share of its neighbours' by profile",
}
_PartMaker = Callable[[EntityTable, Tensor], Part]


class HybridTables(Method):
    """The embedding tables of ``kt_entity`` as hybrids (``kt_hybrid``) during training.

    A hybrid of collaborative and content-based embeddings (Kula, 2015, arXiv 1507.08439: a row is
    a sum over features, one of them the item itself) with a language model's profile as content.
    ``linear`` adds a learned map of the profile, ``neighbours`` a share of the mean row of those
    with the nearest profiles. The sum is in the model's own table after every step, so
    architecture, checkpoint and serving cost are the stock model's, and nothing is left to fold
    when training ends. The global random streams are not touched.

    Parameters
    ----------
    config : RunConfig
        ``kt_entity``, ``kt_init_tables``, ``kt_control`` and the keys of the kind hold.

    Attributes
    ----------
    parameters : list of FoldedParameter
        What is trained as a hybrid, from :meth:`prepare` on.
    """

    name: ClassVar[str] = "hybrid"

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.parameters: list[FoldedParameter] = []
        self._joined = ExitStack()
        self._lookups: list[tuple[FoldedParameter, list[nn.Embedding]]] = []
        self._epoch = ExitStack()

    @classmethod
    def wanted(cls, config: RunConfig) -> bool:
        """Unless ``kt_hybrid`` is ``none``."""
        return bool(config["kt_hybrid"] != "none")

    def prepare(self, context: RunContext) -> None:
        """Find the tables, and what the profiles add to them.

        Raises
        ------
        LLMKTError
            No tables, or profiles that cannot be used.
        """
        kind = self.config["kt_hybrid"]
        if self.config["enable_scaler"]:
            raise ConfigError(
                f"kt_hybrid: {kind} takes gradients as they are: set enable_scaler: False."
            )
        parameters = dict(context.model.named_parameters())
        parts: dict[str, list[Part]] = {}
        for entity, tables in context.written_tables().items():
            make = self._maker(context, entity, tables[0].rows(parameters))
            for table in tables:
                part = make(table, table.rows(parameters))
                parts.setdefault(table.name, []).append(part)
        self.parameters = [FoldedParameter(n, parameters[n], own) for n, own in parts.items()]
        for folded in self.parameters:
            folded.write()  # a resumed run's follows from the R that it puts back
            for part in folded.parts:
                logger.info("%s is trained as %s.", part.table, _IN_WORDS[kind])
        # A transfer loss may read any row, and other processes look up others.
        if not term_settings(self.config) and process_count() == 1:
            experiment = LookupExperiment(context.model, context.train_data)
            self._lookups = [
                (folded, experiment.modules_of(folded.name))
                for folded in self.parameters
                if all(part.table.axis == 0 for part in folded.parts)
            ]

    def _maker(self, context: RunContext, entity: str, like: Tensor) -> _PartMaker:
        """Return what makes a part; what the tables of an entity share is made once."""
        profiles, trained = context.profiles.of(entity), context.profiles.trained_ids(entity)
        described, scale = profiles.described(), float(self.config["kt_hybrid_scale"])
        if self.config["kt_hybrid"] == "linear":
            features = profile_features(self.config, profiles, trained).to(like)
            rate = float(self.config["kt_hybrid_rate"] or map_rate(features, scale))
            decay = self.config["kt_hybrid_decay"]
            return lambda table, rows: LinearMap(
                table, described, features, rows.shape[1], rate, decay
            )
        neighbours = nearest_neighbours(self.config, profiles, trained, like.device)
        mean = NeighbourMean(neighbours, like)
        return lambda table, rows: Neighbours(table, described, mean, scale)

    def join_optimizers(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Put the summands in the parameters' place, and keep the model's tables up to date.

        Raises
        ------
        LayerError
            No optimizer trains a table.
        ConfigError
            An optimizer for sparse gradients does.
        """
        self._joined = join_optimizers(self.parameters, optimizers)

    def on_epoch_begin(self, epoch: int) -> None:
        """Write rows only when they are looked up, where the model reads them in no other way."""
        for folded, modules in self._lookups:
            if modules:
                self._epoch.enter_context(folded.on_demand(modules))

    def on_epoch_end(self, epoch: int) -> None:
        """Write all rows."""
        self._epoch.close()

    def profiles(self) -> list[ProfileVectors]:
        """Return what each part was made from."""
        return [part.profiles for folded in self.parameters for part in folded.parts]

    def close(self) -> None:
        """Write all rows, and detach from the optimizers."""
        self._epoch.close()
        self._joined.close()

    def state_dict(self) -> State:
        """Return what is trained in the place of each parameter: R, then each W."""
        return {
            folded.name: [summand.detach() for summand in folded.learned()]
            for folded in self.parameters
        }

    @torch.no_grad()
    def load_state_dict(self, state: State) -> None:
        """Put R and each W back; the model gets its sum."""
        for folded in self.parameters:
            shapes = [tuple(stored.shape) for stored in state[folded.name]]
            if shapes != [tuple(summand.shape) for summand in folded.learned()]:
                raise ValueError(f"{folded.name} was trained from summands of shapes {shapes}.")
            for summand, stored in zip(folded.learned(), state[folded.name]):
                summand.copy_(stored)
            folded.write()

    def knowledge(self) -> Settings:
        """Return what is added to a row, and how much of it."""
        kind = self.config["kt_hybrid"]
        return {"kt_hybrid": kind, **{key: self.config[key] for key in _KEYS[kind]}}

    def summary(self) -> Settings:
        """Describe every table."""
        tables = [
            {
                "place": f"hybrid {part.table}",
                "table": str(part.table),
                **part.profiles.summary(),
                "kind": self.config["kt_hybrid"],
                "width": int(part.table.rows({folded.name: folded.own}).shape[1]),
                **part.summary(),
            }
            for folded in self.parameters
            for part in folded.parts
        ]
        return {self.name: tables}
