"""Embeddings for users and items with a profile and hardly any interactions, after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from recbole_llmkt.checkpoints import load_checkpoint, save_file
from recbole_llmkt.compat import forget_computed
from recbole_llmkt.datasets.history import interaction_counts
from recbole_llmkt.profiles.loading import ProfileVectors
from recbole_llmkt.transfer.context import RunContext
from recbole_llmkt.transfer.inspection.tables import EntityTable
from recbole_llmkt.transfer.methods.base import Method
from recbole_llmkt.transfer.targets.controls import apply_control
from recbole_llmkt.utils.exceptions import ProfileError
from recbole_llmkt.utils.randomness import transfer_seed
from recbole_llmkt.utils.types import RunConfig, Settings, State

logger = getLogger(__name__)

Matrix = npt.NDArray[np.float32]
# Strengths that the regression chooses among; profile embeddings have length 1.
ALPHAS = tuple(float(alpha) for alpha in np.logspace(-2, 4, 13))
_FEWEST_WARM = 2
_FILLED = "filled"


@dataclass(frozen=True)
class ColdSide:
    """The cold users, or items, of a run and the tables that hold their embeddings.

    Attributes
    ----------
    tables : list of EntityTable
        What is written.
    profiles : ProfileVectors
        All profiles of the entity.
    vectors : ndarray of float32, shape (n_profiles, dim_text)
        Their embeddings, those of the control arm where there is one.
    cold : ndarray of bool, shape (n_profiles,)
        Whose rows are written: at most ``kt_cold_threshold`` training interactions. The others are
        warm: the regression is fitted on them.
    """

    tables: list[EntityTable]
    profiles: ProfileVectors
    vectors: Matrix
    cold: npt.NDArray[np.bool_]

    def summary(self) -> Settings:
        """Describe it in plain values, for results and checkpoints."""
        tables = [str(table) for table in self.tables]
        return {
            "place": f"cold start of {', '.join(tables)}",
            **self.profiles.summary(),
            "tables": tables,
            "cold": int(self.cold.sum()),
            "warm": int((~self.cold).sum()),
        }


class ColdStart(Method):
    """Give cold users and items an embedding predicted from their profile.

    A ridge regression from profile embeddings to the rows of a table is fitted on the warm
    entities; what it predicts for a cold one is written into its row. The strength is chosen for
    each column by generalised cross-validation (Golub, Heath and Wahba, 1979). Warm rows, rows
    without a profile and the padding row stay as they are, bit for bit; nothing else is needed at
    serving time.

    Parameters
    ----------
    config : RunConfig
        ``kt_entity``, ``kt_cold_threshold``, ``kt_init_tables`` and ``kt_control`` hold.

    Attributes
    ----------
    sides : list of ColdSide
        Users, items or both, from :meth:`prepare` on.
    """

    name: ClassVar[str] = "cold_start"

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.sides: list[ColdSide] = []

    @classmethod
    def wanted(cls, config: RunConfig) -> bool:
        """With ``kt_cold_start: True``."""
        return bool(config["kt_cold_start"])

    def prepare(self, context: RunContext) -> None:
        """Find out who is cold; nothing of the model changes here.

        Raises
        ------
        LLMKTError
            No table, no usable profiles, or too few warm entities with a profile.
        """
        if context.pretraining:
            return
        threshold = self.config["kt_cold_threshold"]
        counts = interaction_counts(context.train_data._dataset)
        for entity, tables in context.written_tables().items():
            profiles = context.profiles.of(entity)
            rng = np.random.default_rng(transfer_seed(self.config))
            vectors = apply_control(self.config["kt_control"], profiles.vectors, rng)
            cold = counts[entity][profiles.ids] <= threshold
            n_warm = int((~cold).sum())
            if n_warm < _FEWEST_WARM:
                raise ProfileError(
                    f"kt_cold_start learns from {entity}s with a profile and more than "
                    f"{threshold} training interactions, and there are {n_warm}: write more "
                    "profiles, or lower kt_cold_threshold."
                )
            self.sides.append(ColdSide(tables, profiles, vectors, cold))

    def fill(self, parameters: Mapping[str, Tensor]) -> list[Settings]:
        """Write the rows of cold entities in place.

        Parameters
        ----------
        parameters : mapping of str to Tensor
            The model's parameters by name, as in ``state_dict``.

        Returns
        -------
        list of dict
            What :func:`undo` needs to put the trained rows back.
        """
        return fill_rows(self.sides, parameters)

    def finish(self, model: nn.Module, checkpoint: str | None) -> None:
        """Fill the best checkpoint, else the model in memory."""
        if self.sides and checkpoint is not None:
            self.fill_checkpoint(checkpoint)
        elif self.sides:
            self.fill_model(model)

    def fill_model(self, model: nn.Module) -> None:
        """Fill the model in memory; what it has computed from the old rows is forgotten."""
        self.fill(model.state_dict())
        cached: State = model.other_parameter()  # type: ignore[operator]
        model.load_other_parameter(_without_caches(cached))  # type: ignore[operator]
        forget_computed(model)

    def fill_checkpoint(self, path: str) -> None:
        """Fill a checkpoint on the disk, whole or not at all."""
        checkpoint = load_checkpoint(path)
        self.rewind(checkpoint)
        filled = self.fill(checkpoint["state_dict"])
        checkpoint["transfer"]["methods"][self.name] = {_FILLED: filled}
        checkpoint["other_parameter"] = _without_caches(checkpoint["other_parameter"])
        save_file(checkpoint, path)

    @classmethod
    def rewind(cls, checkpoint: State) -> None:
        """Put the trained rows of a filled checkpoint back."""
        for filled in filled_tables(checkpoint):
            values = dict(filled)
            ids, rows = values.pop("ids"), values.pop("rows")
            EntityTable(**values).rows(checkpoint["state_dict"])[ids] = rows
        checkpoint["transfer"]["methods"].get(cls.name, {}).pop(_FILLED, None)

    def uses_profiles_from(self, epoch: int) -> bool:
        """Training needs none."""
        return False

    def summary(self) -> Settings:
        """Describe both sides."""
        return {self.name: [side.summary() for side in self.sides]}


def fill_rows(sides: Sequence[ColdSide], parameters: Mapping[str, Tensor]) -> list[Settings]:
    """Write the rows of cold entities in place, as the warm ones' profiles and rows predict them.

    Parameters
    ----------
    sides : sequence of ColdSide
        Users, items or both.
    parameters : mapping of str to Tensor
        The model's parameters by name, as in ``state_dict``.

    Returns
    -------
    list of dict
        For each table that was written its fields, the ``ids`` and their former ``rows``.
    """
    trained = []
    for side in sides:
        if not side.cold.any():
            logger.info("Cold start: no %s is cold.", side.profiles.entity)
            continue
        ids = torch.from_numpy(side.profiles.ids)
        cold = torch.from_numpy(side.cold)
        for table in side.tables:
            rows = table.rows(parameters)
            trained.append({**vars(table), "ids": ids[cold], "rows": rows[ids[cold]].clone()})
            known = rows[ids[~cold]].cpu().double().numpy()
            predicted = _predict(side.vectors[~side.cold], known, side.vectors[side.cold])
            rows[ids[cold]] = torch.from_numpy(predicted).to(rows)
            logger.info("Cold start: %d of %d rows of %s.", cold.sum(), table.n - 1, table)
    return trained


def filled_tables(checkpoint: Settings) -> list[Settings]:
    """List what was filled in a checkpoint: each table's ``entity``, ``ids`` and trained rows."""
    filled: list[Settings] = (
        checkpoint["transfer"]["methods"].get(ColdStart.name, {}).get(_FILLED, [])
    )
    return filled


def _predict(warm: Matrix, rows: npt.NDArray[np.float64], cold: Matrix) -> npt.NDArray[np.float64]:
    """Regress the warm entities' rows on their vectors, and predict those of the cold ones."""
    from sklearn.linear_model import RidgeCV

    # A strength for each column: profiles tell much about some dimensions, nothing about others.
    ridge = RidgeCV(alphas=ALPHAS, alpha_per_target=True).fit(warm.astype(np.float64), rows)
    predicted: npt.NDArray[np.float64] = ridge.predict(cold.astype(np.float64))
    return predicted.reshape(len(cold), -1)


def _without_caches(other: State) -> State:
    """Drop what models keep of their own embeddings: they compute it again where it is None."""
    return {
        key: None if isinstance(value, Tensor) and value.is_floating_point() else value
        for key, value in other.items()
    }
