"""Start embedding tables from what the profiles say (LLMInit's idea): no loss is added."""

from __future__ import annotations

from dataclasses import dataclass
from logging import getLogger
from typing import ClassVar

import torch
from torch import Tensor

from recbole_llmkt.compat import later_stage
from recbole_llmkt.profiles.loading import ProfileVectors
from recbole_llmkt.transfer.context import RunContext
from recbole_llmkt.transfer.inspection.tables import EntityTable
from recbole_llmkt.transfer.methods.base import Method
from recbole_llmkt.transfer.targets.build import TargetTable, build_targets, widest
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.randomness import transfer_seed
from recbole_llmkt.utils.types import RunConfig, Settings, State

logger = getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """One table that was started from targets.

    Attributes
    ----------
    table : EntityTable
        Where.
    rows, width : int
        Rows that were written, and how many of their leading columns.
    of_width : int
        Columns of the table.
    profiles : ProfileVectors
        What they were made from.
    """

    table: EntityTable
    rows: int
    width: int
    of_width: int
    profiles: ProfileVectors

    def summary(self) -> Settings:
        """Describe it in plain values, for logs, results and checkpoints."""
        return {
            "place": f"start of {self.table}",
            "table": str(self.table),
            **self.profiles.summary(),
            "rows": self.rows,
            "width": self.width,
            "of_width": self.of_width,
        }


class Initialization(Method):
    """The embedding tables of ``kt_entity`` start from the profiles' targets, once.

    Attributes
    ----------
    starts : list of dict
        What was done to each table.
    """

    name: ClassVar[str] = "init"

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.starts: list[Settings] = []

    @classmethod
    def wanted(cls, config: RunConfig) -> bool:
        """With ``kt_init: targets``."""
        return bool(config["kt_init"] == "targets")

    def prepare(self, context: RunContext) -> None:
        """Start the tables; one with the weights of a checkpoint has been started before."""
        if not context.resumed:
            self.starts = [start.summary() for start in start_tables(context)]

    def uses_profiles_from(self, epoch: int) -> bool:
        """Never, once the tables have been initialised."""
        return False

    def state_dict(self) -> State:
        """Return what was done at the start."""
        return {"starts": self.starts}

    def load_state_dict(self, state: State) -> None:
        """Restore what was done at the start."""
        self.starts = list(state["starts"])

    def summary(self) -> Settings:
        """Describe each table."""
        return {self.name: self.starts}


def start_tables(context: RunContext) -> list[Start]:
    """Start the embedding tables of ``kt_entity`` from the profiles' targets.

    Each table's rows of entities with a profile become their targets, ``kt_transform``-ed to the
    table's width, times one number that makes their root mean square ``kt_init_scale`` times that
    of the model's own initial rows. Where the transform cannot give that width (PCA: not more than
    the embeddings' own), the leading columns are filled and the rest stays as initialised. Rows of
    other entities and the padding row stay. Tables of width 1 (biases) are left alone. The global
    random streams are not touched.

    Parameters
    ----------
    context : RunContext
        The run; its model is not trained yet, and its tables are written in place.

    Returns
    -------
    list of Start
        One for each table.

    Raises
    ------
    LLMKTError
        Tables that are not there or cannot be told apart, profiles or targets that cannot be used,
        or a model that begins with weights of an earlier training.
    """
    _check_untrained(context.config)
    tables = context.written_tables(min_width=2)
    starts = [start for named in tables.values() for start in _start(context, named)]
    for start in starts:
        logger.info(
            "%s starts from the %s profiles: %d of %d rows, %d of %d columns.",
            start.table,
            start.table.entity,
            start.rows,
            start.table.n - 1,
            start.width,
            start.of_width,
        )
    return starts


def _check_untrained(config: RunConfig) -> None:
    stage = later_stage(config)
    if stage:
        raise ConfigError(
            f"kt_init: targets would overwrite the weights that {config['model']} takes from an "
            f"earlier training ({stage}). Set kt_init: none for this stage."
        )


def _start(context: RunContext, tables: list[EntityTable]) -> list[Start]:
    """Start the tables of one entity."""
    config, entity = context.config, tables[0].entity
    profiles, trained = context.profiles.of(entity), context.profiles.trained_ids(entity)
    seed = transfer_seed(config)
    transform, control = config["kt_transform"], config["kt_control"]
    parameters = dict(context.model.named_parameters())
    made: dict[int, TargetTable] = {}
    starts = []
    described = profiles.described()
    for table in tables:
        rows = table.rows(parameters)
        width, dim_text = rows.shape[1], profiles.vectors.shape[1]
        if transform == "none" and width < dim_text:
            raise ConfigError(
                f"kt_transform: none keeps the profile embeddings {dim_text} wide, and {table} is "
                f"{width} wide: kt_init: targets needs another kt_transform."
            )
        width = widest(transform, profiles, width, trained)
        if width not in made:
            made[width] = build_targets(profiles, width, transform, control, seed, trained)
        targets = made[width].to(rows.device)
        _write(rows, targets, config["kt_init_scale"], table)
        starts.append(Start(table, int(targets.mask.sum()), width, rows.shape[1], described))
    return starts


def _write(rows: Tensor, targets: TargetTable, scale: float, table: EntityTable) -> None:
    """Write scaled targets over the leading columns of the rows that have one."""
    own = rows[1:].square().mean().sqrt()
    if not own > 0:
        raise ConfigError(
            f"{table} starts at zero, so kt_init_scale has nothing to be a multiple of. Leave it "
            "out by naming the others in kt_init_tables."
        )
    values = targets.values[targets.mask]
    spread = values.square().mean().sqrt()
    if not spread > 0:
        raise ConfigError(
            f"The targets of {table} are all zero: the profile embeddings may be constant."
        )
    ids = targets.mask.nonzero().flatten()
    with torch.no_grad():
        rows[ids, : values.shape[1]] = (values * (scale * own / spread)).to(rows.dtype)
