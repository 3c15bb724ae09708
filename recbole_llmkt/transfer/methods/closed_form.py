"""Item profiles in models that are solved in closed form rather than trained."""

from __future__ import annotations

from logging import getLogger
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recbole_llmkt.profiles.loading import ProfileVectors
from recbole_llmkt.transfer.context import RunContext
from recbole_llmkt.transfer.methods.base import Method
from recbole_llmkt.transfer.targets.controls import apply_control
from recbole_llmkt.utils.exceptions import ConfigError, ProfileError
from recbole_llmkt.utils.randomness import transfer_seed
from recbole_llmkt.utils.types import IntArray, RunConfig, Settings

logger = getLogger(__name__)

PROFILE_RIDGE = 10.0  # of the matrix that is fitted on the profiles alone


class ClosedForm(Method):
    r"""EASE's item-item matrix, solved anew with the items' profiles (``kt_closed_form``).

    With X the interactions, G = X'X, T the items' profile features (:func:`item_features`), K = TT'
    and :math:`\lambda` the model's ``reg_weight``, both minimise a sum over B with a diagonal of 0:

    - ``rows``: :math:`|X - XB|^2 + w |T' - T'B|^2 + \lambda |B|^2`; profiles are further rows of
      the interactions (as in Jeunen et al., RecSys 2020).
    - ``drawn``: :math:`|X - XB|^2 + w |B - S|^2 + \lambda |B|^2`, with S the EASE of the profiles
      alone (as in L3AE, arXiv 2508.13500).

    RecBole solves the model in its constructor; this replaces the result, which checkpoints then
    hold as a tensor.

    Parameters
    ----------
    config : RunConfig
        ``kt_closed_form``, ``kt_closed_form_weight``, ``kt_control`` and ``reg_weight`` hold.
    """

    name: ClassVar[str] = "closed_form"

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self._profiles: ProfileVectors
        self._rows = 0

    @classmethod
    def wanted(cls, config: RunConfig) -> bool:
        """With ``kt_closed_form``, unless its weight is 0."""
        return bool(config["kt_closed_form"] != "none" and config["kt_closed_form_weight"] > 0)

    @classmethod
    def entities(cls, config: RunConfig) -> set[str]:
        """Items, whatever ``kt_entity`` says: the matrix has no users."""
        return {"item"}

    def prepare(self, context: RunContext) -> None:
        """Solve the model's matrix with the profiles.

        Raises
        ------
        LLMKTError
            Profiles that cannot be used, or a matrix that cannot be inverted.
        """
        config, model = self.config, context.model
        self._profiles = context.profiles.of("item")
        features = item_features(config, self._profiles, context.profiles.trained_ids("item"))
        self._rows = int((features.abs().sum(dim=1) > 0).sum())
        interactions: Any = model.interaction_matrix
        solve = {"drawn": solve_drawn, "rows": solve_with_rows}[config["kt_closed_form"]]
        model.item_similarity = None  # type: ignore[assignment]  # RecBole's, as large as ours
        matrix = solve(
            torch.from_numpy((interactions.T @ interactions).toarray()).to(config["device"]),
            features.to(config["device"]),
            float(config["reg_weight"]),
            float(config["kt_closed_form_weight"]),
        )
        model.item_similarity = matrix.cpu().numpy()  # type: ignore[assignment]
        model.solved_names = ("item_similarity",)  # type: ignore[assignment]
        logger.info(
            "%s is solved with the profiles of %d of %d items.",
            type(model).__name__,
            self._rows,
            len(features) - 1,
        )

    def profiles(self) -> list[ProfileVectors]:
        """Return the items' profiles."""
        return [self._profiles]

    def knowledge(self) -> Settings:
        """Return how the profiles come in."""
        return {key: self.config[key] for key in ("kt_closed_form", "kt_closed_form_weight")}

    def summary(self) -> Settings:
        """Describe what was solved."""
        facts = {"place": "item-item matrix", **self._profiles.summary(), "rows": self._rows}
        return {self.name: [{**facts, "kind": self.config["kt_closed_form"]}]}


def item_features(config: RunConfig, profiles: ProfileVectors, trained_ids: IntArray) -> Tensor:
    """Return the items' profile embeddings as features.

    Parameters
    ----------
    config : RunConfig
        ``kt_control`` and ``kt_seed``.
    profiles : ProfileVectors
        Those of the items.
    trained_ids : ndarray of int64
        Items of the training split: the mean is theirs.

    Returns
    -------
    Tensor of float32, shape (n_items, dim_text)
        By internal id, centred; zero for the padding id, where there is no profile, and
        everywhere with ``kt_control: zero``.

    Raises
    ------
    ProfileError
        No item with a profile is trained.
    """
    trained = np.isin(profiles.ids, trained_ids)
    if not trained.any():
        raise ProfileError(
            f"None of the {len(profiles.ids)} items with a profile occurs in the training split: "
            "kt_closed_form has nothing to learn from."
        )
    centred = profiles.vectors - profiles.vectors[trained].mean(axis=0)
    features = torch.zeros(profiles.n_entities, centred.shape[1])
    if config["kt_control"] != "zero":
        rng = np.random.default_rng(transfer_seed(config))
        controlled = apply_control(config["kt_control"], centred, rng)
        features[torch.from_numpy(np.asarray(profiles.ids))] = torch.from_numpy(controlled)
    return features


def solve_with_rows(gram: Tensor, features: Tensor, ridge: float, weight: float) -> Tensor:
    """Solve EASE with the profiles as further rows of the interactions.

    Parameters
    ----------
    gram : Tensor, shape (n, n)
        X'X; it is overwritten.
    features : Tensor, shape (n, d)
        T.
    ridge, weight : float
        The model's regularisation and the weight of the profiles.

    Returns
    -------
    Tensor, shape (n, n)
        B.

    Raises
    ------
    ConfigError
        The matrix cannot be inverted.
    """
    gram.addmm_(features, features.T, alpha=weight)
    gram.diagonal().add_(ridge)
    return _ease(_inverse(gram))


def solve_drawn(gram: Tensor, features: Tensor, ridge: float, weight: float) -> Tensor:
    """Solve EASE with its matrix drawn towards that of the profiles alone.

    Parameters, result and errors are those of :func:`solve_with_rows`.
    """
    gram.diagonal().add_(ridge + weight)
    inverse = _inverse(gram)
    # P (G + w S) = I + P (w S - (l + w) I), which does without G.
    target = profile_similarity(features).mul_(weight)
    target.diagonal().sub_(ridge + weight)
    product = inverse @ target
    del target
    product.diagonal().add_(1.0)
    multipliers = product.diagonal() / inverse.diagonal()
    product -= inverse.mul_(multipliers)
    return _without_diagonal(product)


def profile_similarity(features: Tensor, ridge: float = PROFILE_RIDGE) -> Tensor:
    """Return the EASE of the profiles alone.

    Parameters
    ----------
    features : Tensor, shape (n, d)
        T.
    ridge : float
        Its regularisation.

    Returns
    -------
    Tensor, shape (n, n)
        S.
    """
    # (T T' + r I)^-1 = (I - T (T'T + r I)^-1 T') / r: a small inverse in place of a large one.
    wide = features.double()
    small = wide.T @ wide
    small.diagonal().add_(ridge)
    inverse = features @ torch.linalg.solve(small, wide.T).to(features.dtype)
    inverse.neg_().diagonal().add_(1.0)
    return _ease(inverse)  # without the factor 1 / r, which cancels out


def _ease(inverse: Tensor) -> Tensor:
    """Return I - P / diag(P), column by column; P is overwritten."""
    return _without_diagonal(inverse.div_(-inverse.diagonal().clone()))


def _without_diagonal(matrix: Tensor) -> Tensor:
    matrix.fill_diagonal_(0.0)
    return matrix


def _inverse(matrix: Tensor) -> Tensor:
    """Return the inverse of a symmetric positive definite matrix, which is overwritten."""
    try:
        factor = torch.linalg.cholesky(matrix, out=matrix)
    except RuntimeError as error:
        raise ConfigError(
            "kt_closed_form: the items' matrix cannot be inverted: set a larger reg_weight."
        ) from error
    return torch.cholesky_inverse(factor)
