"""Start embedding tables from what the profiles say (LLMInit's idea): no loss is added."""

from __future__ import annotations

from dataclasses import dataclass
from logging import getLogger
from typing import Any

import torch
from torch import Tensor, nn

from recbole_llmkt.profiles.loading import ProfileVectors, load_profiles
from recbole_llmkt.transfer.inspection.tables import EntityTable, chosen_tables
from recbole_llmkt.transfer.targets.build import TargetTable, build_targets, trained_ids, widest
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.randomness import transfer_seed

logger = getLogger(__name__)

# Stages of RecBole's models that begin with weights of an earlier one.
_LATER_STAGES: dict[str, tuple[Any, ...]] = {
    "train_stage": ("critic_pretrain", "finetune"),
    "phase": ("distillation", "finetuning"),
    "train_method": ("after_pretrain",),
    "use_pretrain": (True,),
}


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

    def summary(self) -> dict[str, Any]:
        """Describe it in plain values, for logs, results and checkpoints."""
        return {
            "table": str(self.table),
            **self.profiles.summary(),
            "rows": self.rows,
            "width": self.width,
            "of_width": self.of_width,
        }


def start_tables(config: Any, model: nn.Module, train_data: Any) -> list[Start]:
    """Start the embedding tables of ``kt_entity`` from the profiles' targets.

    Each table's rows of entities with a profile become their targets, ``kt_transform``-ed to the
    table's width, times one number that makes their root mean square ``kt_init_scale`` times that
    of the model's own initial rows. Where the transform cannot give that width (PCA: not more than
    the embeddings' own), the leading columns are filled and the rest stays as initialised. Rows of
    other entities and the padding row stay. Tables of width 1 (biases) are left alone. The global
    random streams are not touched.

    Parameters
    ----------
    config : Config
        The run's configuration.
    model : nn.Module
        The model, not yet trained; its tables are written in place.
    train_data : AbstractDataLoader
        RecBole's loader of the training split.

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
    _check_untrained(config)
    tables = chosen_tables(config, model, train_data, min_width=2)
    starts = [one for entity in tables for one in _start(config, model, train_data, tables[entity])]
    for one in starts:
        logger.info(
            "%s starts from the %s profiles: %d of %d rows, %d of %d columns.",
            one.table,
            one.table.entity,
            one.rows,
            one.table.n - 1,
            one.width,
            one.of_width,
        )
    return starts


def _check_untrained(config: Any) -> None:
    for key, later in _LATER_STAGES.items():
        if key in config and config[key] in later:
            raise ConfigError(
                f"kt_init: targets would write over the weights that {config['model']} takes from "
                f"an earlier training ({key}: {config[key]}). Set kt_init: none for this stage."
            )


def _start(
    config: Any, model: nn.Module, train_data: Any, tables: list[EntityTable]
) -> list[Start]:
    """Start the tables of one entity."""
    dataset, entity = train_data._dataset, tables[0].entity
    profiles = load_profiles(config, dataset, entity)
    trained, seed = trained_ids(dataset, entity), transfer_seed(config)
    transform, control = config["kt_transform"], config["kt_control"]
    parameters = dict(model.named_parameters())
    made: dict[int, TargetTable] = {}
    starts = []
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
        starts.append(Start(table, int(targets.mask.sum()), width, rows.shape[1], profiles))
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
