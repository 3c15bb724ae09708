"""Profiles in models that are solved in closed form rather than trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from logging import getLogger
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from recbole_llmkt.compat import put_solution, unsolved_model
from recbole_llmkt.profiles.loading import ProfileVectors, RunProfiles
from recbole_llmkt.transfer.closed_forms.ease import solve_ease
from recbole_llmkt.transfer.closed_forms.memory import check_memory
from recbole_llmkt.transfer.closed_forms.neighbourhood import solve_asymmetric, solve_cosine
from recbole_llmkt.transfer.closed_forms.problem import Problem, Solution, default_weight
from recbole_llmkt.transfer.closed_forms.projection import solve_projection
from recbole_llmkt.transfer.closed_forms.slim import solve_admm, solve_elastic_net
from recbole_llmkt.transfer.context import RunContext
from recbole_llmkt.transfer.methods.base import Method
from recbole_llmkt.transfer.targets.controls import apply_control
from recbole_llmkt.utils.exceptions import ProfileError
from recbole_llmkt.utils.randomness import transfer_seed
from recbole_llmkt.utils.types import Dataset, IntArray, RunConfig, Settings

logger = getLogger(__name__)

# By model; keys.combinations.CLOSED_FORM has the kinds of each.
SOLVERS: dict[str, Callable[[Problem], Solution]] = {
    "EASE": solve_ease,
    "SLIMElastic": solve_elastic_net,
    "ADMMSLIM": solve_admm,
    "ItemKNN": solve_cosine,
    "AsymKNN": solve_asymmetric,
    "NCEPLRec": solve_projection,
}


class ClosedForm(Method):
    """A model's matrices, solved anew with profiles (``kt_closed_form``).

    Profiles are further ``rows`` of the interactions, or the solution is ``drawn`` towards that of
    the profiles alone: :mod:`recbole_llmkt.transfer.closed_forms` has the equations of each model.

    RecBole solves the model in its constructor; this replaces the result, which checkpoints then
    hold as tensors.

    Parameters
    ----------
    config : RunConfig
        ``kt_closed_form``, ``kt_closed_form_weight``, ``kt_control`` and the model's keys hold.
    """

    name: ClassVar[str] = "closed_form"

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self._profiles: ProfileVectors
        self._weight: float
        self._rows: int

    @classmethod
    def wanted(cls, config: RunConfig) -> bool:
        """With ``kt_closed_form``, unless its weight is 0."""
        return bool(config["kt_closed_form"] != "none" and config["kt_closed_form_weight"] != 0)

    @classmethod
    def entities(cls, config: RunConfig) -> set[str]:
        """Those that the model compares, whatever ``kt_entity`` says."""
        return {"user" if config["knn_method"] == "user" else "item"}

    @classmethod
    def build_model(
        cls,
        config: RunConfig,
        dataset: Dataset,
        profiles: RunProfiles,
        state_dict: Mapping[str, Tensor] | None,
    ) -> nn.Module | None:
        """Leave the solution to :meth:`prepare` or to the weights, after a look at the memory.

        Raises
        ------
        ConfigError
            The model's matrices do not fit.
        """
        if state_dict is None:
            check_memory(config, dataset.item_num)
        return unsolved_model(config, dataset)

    def prepare(self, context: RunContext) -> None:
        """Solve the model's matrices with the profiles.

        Raises
        ------
        LLMKTError
            Profiles that cannot be used, or a matrix that cannot be inverted.
        """
        config, model = self.config, context.model
        (entity,) = self.entities(config)
        self._profiles = context.profiles.of(entity)
        features = profile_features(config, self._profiles, context.profiles.trained_ids(entity))
        self._rows = int((features.abs().sum(dim=1) > 0).sum())
        interactions = context.train_data._dataset.inter_matrix(form="csr").astype(np.float32)
        weight = config["kt_closed_form_weight"]
        self._weight = float(default_weight(interactions) if weight is None else weight)
        problem = Problem(
            config,
            interactions,
            features.to(config["device"]),
            config["kt_closed_form"],
            self._weight,
        )
        put_solution(model, SOLVERS[config["model"]](problem))
        logger.info(
            "%s is solved with weight %.4g for the profiles of %d of %d %ss.",
            type(model).__name__,
            self._weight,
            self._rows,
            len(features) - 1,
            entity,
        )

    def profiles(self) -> list[ProfileVectors]:
        """Return the profiles in use."""
        return [self._profiles]

    def knowledge(self) -> Settings:
        """Return how the profiles come in."""
        return {key: self.config[key] for key in ("kt_closed_form", "kt_closed_form_weight")}

    def summary(self) -> Settings:
        """Describe what was solved."""
        facts = {"place": "solution", **self._profiles.summary(), "rows": self._rows}
        kind = self.config["kt_closed_form"]
        return {self.name: [{**facts, "kind": kind, "weight": self._weight}]}


def profile_features(config: RunConfig, profiles: ProfileVectors, trained_ids: IntArray) -> Tensor:
    """Return profile embeddings as features.

    Parameters
    ----------
    config : RunConfig
        ``kt_control`` and ``kt_seed``.
    profiles : ProfileVectors
        Those of the items, or of the users.
    trained_ids : ndarray of int64
        Which of them occur in the training split: the mean is theirs.

    Returns
    -------
    Tensor of float32, shape (n, dim_text)
        By internal id, of unit length and then centred; zero for the padding id, where there is no
        profile, and everywhere with ``kt_control: zero``.

    Raises
    ------
    ProfileError
        None with a profile is trained.
    """
    trained = np.isin(profiles.ids, trained_ids)
    if not trained.any():
        raise ProfileError(
            f"None of the {len(profiles.ids)} {profiles.entity}s with a profile occurs in the "
            "training split: kt_closed_form has nothing to learn from."
        )
    lengths = np.linalg.norm(profiles.vectors, axis=1, keepdims=True)
    directions = profiles.vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    centred = directions - directions[trained].mean(axis=0)
    features = torch.zeros(profiles.n_entities, centred.shape[1])
    if config["kt_control"] != "zero":
        rng = np.random.default_rng(transfer_seed(config))
        controlled = apply_control(config["kt_control"], centred, rng)
        features[torch.from_numpy(profiles.ids)] = torch.from_numpy(controlled)
    return features
